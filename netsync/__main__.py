"""``python -m netsync``."""

from netsync.cli.quick import main

main()
