"""Who answers the videos of a grid: this process, or worker processes on this machine."""
