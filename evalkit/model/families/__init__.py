"""One file per model family: which positions, which vision tower; `registry` finds a family by its `model_type`."""
