"""What the local broker runs on: its jars, its settings."""
