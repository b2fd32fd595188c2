"""``phosphene``, also as ``python -m phosphene``: all commands, that of the studio above the command line among them."""

import os
import signal


def _leave(*_: object) -> None:
    """Ctrl-C before anybody listens for it: nothing is begun, and what imports make of an exception need not be told."""
    try:
        os.write(2, b"phosphene: interrupted.\n")
    finally:
        os._exit(130)


_before = signal.getsignal(signal.SIGINT)
try:
    if _before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
except ValueError:  # not the main thread, which is told of signals
    _before = None
import phosphene.web.serve  # noqa: E402, F401 (adds its command)
from phosphene.cli import main  # noqa: E402

if _before is signal.default_int_handler:
    signal.signal(signal.SIGINT, _before)

if __name__ == "__main__":
    raise SystemExit(main())
