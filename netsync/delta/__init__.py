"""Signature, match and patch: the delta as pure functions of bytes."""
