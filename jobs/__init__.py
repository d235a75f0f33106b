"""How data moves: one file a job, one folder a domain.  `python -m jobs` lists them."""
