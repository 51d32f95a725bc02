"""evalkit: fair, fast evaluation of long-video compression for VideoLLMs."""

__version__ = "0.1.0"
