"""What outlives a run: one SQLite file in the state directory."""
