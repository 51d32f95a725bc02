"""Question sets, their protocols and their videos."""
