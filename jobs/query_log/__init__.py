"""From the query log to what it teaches: clean events, weighted pairs, similar queries."""
