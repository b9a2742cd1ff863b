"""ZoneMTA's ``log.remote``: every entry of its log over UDP, without a plugin."""
