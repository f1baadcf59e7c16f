"""Triggers: who is source, who is target, and when."""
