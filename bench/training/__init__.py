"""Long training runs, reproducible by one command each; their outcomes are small JSON files in bench/results."""
