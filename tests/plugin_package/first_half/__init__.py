"""Things for evalkit that are not part of it."""
