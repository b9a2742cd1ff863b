"""The consumers' side: whoever reads what the pipeline wrote."""
