"""A made-up marketplace to try the pipeline with: products, their photos and titles, and shoppers who look for them."""
