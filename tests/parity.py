"""Replay traces of released code; exits 1 if one differs.

python tests/parity.py retake|xcomp|videochat_flash|zoo_layers DIR
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.parity import main

if __name__ == "__main__":
    sys.exit(main())
