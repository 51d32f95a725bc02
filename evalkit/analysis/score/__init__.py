"""Scores of anyone's answers under the published protocols."""
