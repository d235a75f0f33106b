"""Vectors of items and queries, made where the data is."""
