"""Files on disk: every operation relative to a held directory, following no link."""
