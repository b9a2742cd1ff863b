"""Every HTTP listener of a configuration, and what protects it: one row each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.kit.settings import Settings
from pipeline.kit.settings_base import Listener


class Opening(NamedTuple):
    """One listener."""

    section: str
    """Its key in the configuration."""
    listener: Listener
    credentials: str
    """The key, within the section, of what lets strangers in."""
    has_credentials: bool
    shared_credentials: str | None = None
    """The whole key, where the credentials are those of another section."""

    @property
    def credentials_key(self) -> str:
        """Return the whole key of the credentials."""
        return self.shared_credentials or f"{self.section}.{self.credentials}"


def openings(settings: Settings) -> Iterator[Opening]:
    """Yield the HTTP listeners of the services that are configured."""
    ingest, metrics = settings.ingest, settings.metrics
    yield Opening("ingest", ingest, "api_keys", bool(ingest.api_keys))
    has_password = metrics.password is not None
    yield Opening("metrics", metrics, "password", has_password)
    if settings.node_agent is not None:
        yield Opening("nodes", settings.node_agent, "password", has_password, "metrics.password")
