"""Answers in, claims out: reading run folders, statistics, tables. Never imports the model or the engine."""
