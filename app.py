"""`python app.py` opens the page in the browser's reach, as `python -m pulse web` does."""

import sys

from pulse.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "web")
    sys.exit(main())
