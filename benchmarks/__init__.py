"""What measures the project: `python -m benchmarks.<name> --help`."""
