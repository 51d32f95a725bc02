"""Two runs against each other: pairing, compare, the gate for CI and its stored baseline."""
