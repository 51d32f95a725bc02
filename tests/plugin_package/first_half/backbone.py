"""A backbone: evalkit's small random one in smaller chunks."""

SETTINGS = {
    "path": "builtin",
    "revision": None,
    "dtype": "float32",
    "adapter": None,
    "rope": "none",
    "device": "cpu",
    "threads": 1,
    "chunk_cells": 4,
    "encode_cells": 8,
}
