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
    """The key of what lets strangers in: of this section, or with a dot of another."""
    has_credentials: bool

    @property
    def credentials_key(self) -> str:
        """Return the whole key of the credentials."""
        key = self.credentials
        return key if "." in key else f"{self.section}.{key}"


def openings(settings: Settings) -> Iterator[Opening]:
    """Yield the HTTP listeners of the services that are configured."""
    ingest, metrics, gelf = settings.ingest, settings.metrics, settings.gelf
    has_password = metrics.password is not None
    yield Opening("ingest", ingest, "api_keys", bool(ingest.api_keys))
    yield Opening("metrics", metrics, "password", has_password)
    if settings.cpanel.servers:
        yield Opening("cpanel", settings.cpanel, "metrics.password", has_password)
    if gelf.is_on:
        yield Opening("gelf", gelf, "metrics.password", has_password)
    if settings.node_agent is not None:
        yield Opening("nodes", settings.node_agent, "metrics.password", has_password)
    if settings.log_remote is not None:
        section = "zonemta.log_remote"
        yield Opening(section, settings.log_remote, "metrics.password", has_password)
    if settings.probe.config is not None:
        yield Opening("probe", settings.probe, "metrics.password", has_password)
