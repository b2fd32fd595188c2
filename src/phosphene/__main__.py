"""``phosphene``, also as ``python -m phosphene``: all commands, that of the studio above the command line among them."""

import sys

try:
    import phosphene.web.serve  # noqa: F401 (adds its command)
    from phosphene.cli import main
except KeyboardInterrupt:  # before anybody listens for it
    print("phosphene: interrupted.", file=sys.stderr)
    raise SystemExit(130) from None

if __name__ == "__main__":
    raise SystemExit(main())
