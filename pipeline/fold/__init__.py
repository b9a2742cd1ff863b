"""Phase 2, pure: delta frames to panes and sliding windows."""
