"""How the built-in model was trained."""
