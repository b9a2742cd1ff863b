"""Phase 1, pure: raw records to enriched events and combined deltas."""
