"""Compression methods and controls: one file each, over the four verbs of `evalkit.method.Method`."""
