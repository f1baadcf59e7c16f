"""Serving modules to clients: accept, know who it is, grant what is allowed."""
