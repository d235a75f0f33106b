"""Jobs of the catalog: products and their photos."""
