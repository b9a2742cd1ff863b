"""Sinks: what the pipeline wrote, copied into stores of others, one file each."""
