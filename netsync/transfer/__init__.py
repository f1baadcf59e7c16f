"""The heart: one transfer between a source and a target, whoever connected."""
