"""What the worker shows: Prometheus metrics and health."""
