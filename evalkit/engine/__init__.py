"""The loop: one video top to bottom (answer), a grid of methods and ratios over a benchmark (grid), and the store."""
