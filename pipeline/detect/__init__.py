"""Hijacked accounts and blocked addresses, found in 5 min panes: pure, without a clock."""
