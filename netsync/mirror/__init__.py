"""Who writes into a synchronous mirror, and the links to its standbys."""
