"""``phosphene``, also as ``python -m phosphene``: all commands, that of the studio above the command line among them."""

import atexit
import os
import sys
from _signal import SIGINT, default_int_handler, getsignal, signal  # signal itself makes names of them first: a millisecond


def _leave(*_: object) -> None:
    """Ctrl-C before anybody listens for it: nothing is begun, and what imports make of an exception need not be told."""
    try:
        os.write(2, b"phosphene: interrupted.\n")
    finally:
        os._exit(130)


_code: int | None = None


def _end() -> None:
    """End the process, when all is done that others wished done at its end: to take torch apart takes an eighth of a second."""
    if _code is not None:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):  # which Python speaks of as it ends
            return
        os._exit(_code)


atexit.register(_end)  # before anybody else's, which are called before it
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


def run() -> int:
    """What the script ``phosphene`` calls: main, in a process of its own."""
    global _code
    _code = main()
    return _code


if __name__ == "__main__":
    raise SystemExit(run())
