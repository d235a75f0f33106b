"""The index: built in shards, judged by gates, published and rolled back as one unit, searched."""
