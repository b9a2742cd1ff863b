"""The node agent: looks at a machine and at what runs on it, each target by a collector of its own."""
