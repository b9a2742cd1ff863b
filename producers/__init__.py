"""Producers: get records out of a source, apply privacy, write them to the source's raw topic."""
