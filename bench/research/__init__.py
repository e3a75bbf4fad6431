"""Experiments that show what a method is worth before it is built into the engine."""
