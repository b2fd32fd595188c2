"""``phosphene``, also as ``python -m phosphene``: all commands, that of the studio above the command line among them."""

import os
from _signal import SIGINT, default_int_handler, getsignal, signal  # signal itself makes names of them first: a millisecond


def _leave(*_: object) -> None:
    """Ctrl-C before anybody listens for it: nothing is begun, and what imports make of an exception need not be told."""
    try:
        os.write(2, b"phosphene: interrupted.\n")
    finally:
        os._exit(130)


_heard = getsignal(SIGINT) is default_int_handler
try:
    if _heard:
        signal(SIGINT, _leave)
except ValueError:  # not the main thread, which is told of signals
    _heard = False
import phosphene.web.serve  # noqa: E402, F401 (adds its command)
from phosphene.cli import main  # noqa: E402

if _heard:
    signal(SIGINT, default_int_handler)

if __name__ == "__main__":
    raise SystemExit(main())
