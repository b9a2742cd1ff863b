"""GELF messages to raw records: chunks, packing, what they are about, and what of them is kept."""
