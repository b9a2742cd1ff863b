"""What the probe's file says, checked: the exporter's options, the accounts and the routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.kit.values import Address
from producers.sources.probe.accounts import Account

DEFAULT_LISTEN: Final = Address("127.0.0.1", 9782)
FULL_PREFIX: Final = "e2e_exporter_"


@dataclass(frozen=True, slots=True)
class Options:
    """The section ``exporter``; each field is documented in ``docs/probe.md``."""

    listen_addr: str | None = None
    listen_port: int | None = None
    check_interval_seconds: float = 300.0
    receive_poll_seconds: float = 5.0
    receive_timeout_seconds: float = 120.0
    smtp_timeout_seconds: float = 60.0
    delete_testmail_after_verify: bool = True
    subject_prefix: str = "[MAIL-E2E]"
    metrics_prefix: str = "mail_"
    uncertain_probe_on_timeout: bool = True
    uncertain_probe_timeout_seconds: float = 12.0
    uncertain_probe_poll_seconds: float = 4.0
    min_smtp_interval_seconds: float = 0.0
    send_jitter_max_seconds: float = 0.0
    queue_url: str | None = None
    max_parallel_routes: int = 512
    origin: str | None = None

    @property
    def series_prefix(self) -> str:
        """Return what the names of all metrics begin with."""
        prefix = self.metrics_prefix
        return prefix if prefix.endswith(FULL_PREFIX) else prefix + FULL_PREFIX

    def listen(self, otherwise: Address) -> Address:
        """Return where to listen: as the file says, else *otherwise*."""
        port = otherwise.port if self.listen_port is None else self.listen_port
        return Address(self.listen_addr or otherwise.host, port)


@dataclass(frozen=True, slots=True)
class Route:
    """One test: a mail from one account to another, again and again."""

    name: str
    sender: Account
    recipient: Account
    interval_s: float
    receive_timeout_s: float

    @property
    def labels(self) -> tuple[str, str, str]:
        """Return the values of the labels ``route``, ``from`` and ``to``."""
        return self.name, self.sender.name, self.recipient.name


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the endpoints."""

    metrics_user: str | None = None
    metrics_pass: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    debug: bool = False


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """One version of the file."""

    path: Path
    mtime_ns: int
    size: int
    options: Options
    routes: tuple[Route, ...]
    access: Access = Access()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Passwords: no text that leaves the process may hold one."""
    warnings: tuple[str, ...] = ()
