"""Decisions as pure functions of values: what differs, what is selected, what may be deleted."""
