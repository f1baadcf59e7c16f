"""Keys and certificates: who this host is, and whom it trusts."""
