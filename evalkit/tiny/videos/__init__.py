"""The generated videos and questions of the built-in experiment."""
