"""What `make` runs: set-up, and the launchers of the DAGs and the demo."""
