"""The roundtrip probe: sends mail from one account to another and looks for its arrival."""
