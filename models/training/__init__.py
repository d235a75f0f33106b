"""Training MAKE: reading a training set, the loop, the model folder."""
