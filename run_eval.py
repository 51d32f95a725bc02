"""Run an evaluation: `python run_eval.py`, or `--help` for the settings. `evalkit run` is the same where installed.

Exit codes: 0 everything answered, 1 crashed, 2 wrong settings or data, 3 some rows failed (recorded, the rest stands),
130, 143 and 129 stopped by SIGINT (Ctrl-C), SIGTERM and SIGHUP.
"""

import sys

from evalkit.commands.run_eval import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
