"""What every job shares: options, session, lake, run record, console."""
