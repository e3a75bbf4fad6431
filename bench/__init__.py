"""Benchmarks: ``python -m bench SUITE``, from the root of the repository.

A suite is a module (or package) of this folder with a function ``run(options) -> Iterator[Row]``; being here
registers it. Its docstring's first line is its help. Figures are ratios of medians of one run in which
contenders take turns.
"""
