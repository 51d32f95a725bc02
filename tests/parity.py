"""Replay traces of released code: `python tests/parity.py NAME DIR` (`--help` has names); exits 1 if one differs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.parity import main

if __name__ == "__main__":
    sys.exit(main())
