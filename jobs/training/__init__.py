"""From the log to a model that may serve: build the set, train, evaluate, promote."""
