"""The simulator of a mail installation: its world, its traffic, and what receivers answer."""
