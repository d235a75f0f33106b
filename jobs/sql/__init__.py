"""The analyst's door: the lake as a database, with vector functions and search, and no Python to write."""
