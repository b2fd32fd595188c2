"""``python -m phosphene``."""

from phosphene.cli import main

raise SystemExit(main())
