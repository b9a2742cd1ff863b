"""The language that producers, pipeline and consumers share: events, topics, panes, deltas, families, errors."""
