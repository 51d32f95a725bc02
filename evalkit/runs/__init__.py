"""Run folders: the one room that writes and reads them."""
