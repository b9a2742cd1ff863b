"""The engine's numbers, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipeline.kit.transactions import TransactionOptions

Compression = Literal["none", "snappy", "lz4", "zstd", "gzip"]

FOLD_MARGIN_MS: Final = 7 * 60_000
"""What the fold reads beyond the longest window: 1 min grace, 5 min future, 1 min clock skew."""
SEEN_MARGIN_MS: Final = 60_000
"""Clock skew allowed between workers when the seen ids are looked up by time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the engine talks to Kafka."""

    client: Mapping[str, Any]
    """``bootstrap_servers``, security: arguments of every aiokafka client."""
    commit_interval_ms: int
    fold_horizon_ms: int
    """How far back the fold reads: the longest window + :data:`FOLD_MARGIN_MS`."""
    seen_horizon_ms: int
    """How far back ids are remembered: the dedupe horizon, and the rest of its oldest bucket."""
    compression: Compression = "zstd"
    """Of what the engine writes; see :mod:`pipeline.transport.compression` for the figures."""
    session_timeout_ms: int = 10_000
    heartbeat_ms: int = 1_000
    transaction_timeout_ms: int = 10_000
    request_timeout_ms: int = 12_000
    """Longer than the session: Faust and a JoinGroup that waits for the others need it."""
    fetch_min_bytes: int = 256 << 10
    fetch_wait_ms: int = 250
    partition_fetch_bytes: int = 1 << 20
    """Larger fetches cost memory and gain nothing."""
    batch_bytes: int = 2 << 20
    """Uncompressed size at which the outputs of a batch are split into record batches."""
    open_limit_s: float = 30.0
    """One attempt of fencing or of reading offsets takes no longer."""
    retry_cap_s: float = 5.0
    poison_per_minute: int = 10

    @property
    def transactions(self) -> TransactionOptions:
        """The part of them that concerns transactions."""
        return TransactionOptions(
            client=self.client,
            codec=None if self.compression == "none" else self.compression,
            timeout_ms=self.transaction_timeout_ms,
            request_timeout_ms=self.request_timeout_ms,
            open_limit_s=self.open_limit_s,
            batch_bytes=self.batch_bytes,
        )

    @property
    def drain_s(self) -> float:
        """How long a revocation waits for running transactions: half a session."""
        return self.session_timeout_ms / 2000
