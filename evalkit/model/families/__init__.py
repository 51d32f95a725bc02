"""One file per model family: how it encodes frames, lays out positions, reads a prompt and decodes."""
