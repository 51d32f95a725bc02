"""Intervals and paired tests, clustered by video; Pareto fronts."""
