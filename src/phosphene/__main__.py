"""``phosphene``, also as ``python -m phosphene``: all commands, that of the studio above the command line among them."""

import phosphene.web.serve  # noqa: F401 (adds its command)
from phosphene.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
