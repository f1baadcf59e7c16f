"""The configuration: a TOML file, read and checked whole."""
