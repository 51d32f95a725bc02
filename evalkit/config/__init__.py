"""From Hydra's configuration to objects: composing, checking, building."""
