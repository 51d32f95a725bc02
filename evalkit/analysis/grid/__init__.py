"""Runs as a grid of operating points: names, grouping, costs, comparison at equal cost."""
