"""GELF over UDP and TCP (over HTTP it comes to ingest)."""
