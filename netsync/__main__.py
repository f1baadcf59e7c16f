"""``python -m netsync``."""

from netsync.cli.main import main

main()
