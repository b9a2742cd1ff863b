"""Warnings: settings that may start, and that an operator should know to be risky."""

from __future__ import annotations

from pathlib import Path

from pipeline.kit.settings_checks import warnings
from pipeline.kit.settings_load import load


def test_warnings_tell_what_is_risky(tmp_path: Path) -> None:
    file = tmp_path / "mailstream.yaml"
    file.write_text(
        """
        kafka: {bootstrap_servers: "kafka.example:9092"}
        topics: {retention_bytes: {deltas: 1000}}
        ingest: {listen: 0.0.0.0:80, api_keys: [short]}
        metrics: {listen: 0.0.0.0:81, allow: [0.0.0.0/0]}
        """
    )
    settings = load(file, {})
    keys = [warning.partition(":")[0] for warning in warnings(settings)]
    assert keys == [
        "topics.retention_bytes.deltas",
        "topics.replication_factor",
        "topics.partitions",
        "kafka.security_protocol",
        "ingest.api_keys[0].key",
        "ingest.tls_cert",
        "metrics.allow",
    ]
    assert "short" not in warnings(settings)[4].split()
