"""One file a command; heavy imports happen when a command runs."""
