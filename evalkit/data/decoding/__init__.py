"""Where videos are decoded for the engine: in its own process, or in a child process that may be killed."""
