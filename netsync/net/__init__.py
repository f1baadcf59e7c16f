"""Sockets and TLS, and the channels that carry messages over them."""
