"""What is told about the daemon and its jobs: to people, to Prometheus, to systemd."""
