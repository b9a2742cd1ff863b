"""The sources: one file each, none knowing another."""
