"""The built-in experiment: generated long videos, questions about them, and a small VideoLLM trained on such videos."""
