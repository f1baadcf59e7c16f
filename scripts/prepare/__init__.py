"""What every script needs first: programs run, packages installed, an environment made."""
