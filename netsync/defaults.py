"""Where a host's own things are, unless the user says otherwise.

Imports nothing but ``os``: a command that only passes on what it was asked is over before others
have been imported.
"""

from __future__ import annotations

import os

SYSTEM_STATE = "/var/lib/netsync"
SYSTEM_IDENTITY = "/etc/netsync/identity"


def state_directory() -> str:
    """Return where journals, history and locks are."""
    if os.geteuid() == 0:
        return SYSTEM_STATE
    return os.path.join(_base("XDG_STATE_HOME", ".local/state"), "netsync")


def identity_directory() -> str:
    """Return where the certificate, the key and the CA are."""
    if os.geteuid() == 0:
        return SYSTEM_IDENTITY
    return os.path.join(_base("XDG_CONFIG_HOME", ".config"), "netsync", "identity")


def _base(variable: str, below_home: str) -> str:
    configured = os.environ.get(variable, "")
    # The XDG specification says to ignore relative paths.
    if configured.startswith("/"):
        return configured
    return os.path.join(os.path.expanduser("~"), below_home)
