"""netsync keeps a standby host ready to take over."""

__version__ = "0.1.0"
