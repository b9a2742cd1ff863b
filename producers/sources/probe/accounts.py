"""Mailboxes that a route goes between: how to send as one and how to look into one.

Secrets are kept out of every ``repr``; texts name the environment variable that a password came
from, never the password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

IMPLICIT_TLS_PORT = 465


@dataclass(frozen=True, slots=True)
class SmtpAccount:
    """Where and how an account sends."""

    host: str
    port: int = 587
    starttls: bool = True
    username: str | None = None
    """None sends without logging in."""
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    """For each phase."""
    source_address: str | None = None
    """The address of this machine to send from."""
    ca_file: Path | None = None
    """Authorities to trust in place of the system's."""
    verify: bool = True
    client_cert: Path | None = None
    client_key: Path | None = None
    password_env: str | None = None
    """The environment variable that the password came from: error texts name it."""
    helo: str | None = None
    """The name to introduce ourselves by; else this machine's, where that has a domain."""

    @property
    def implicit_tls(self) -> bool:
        """Tell whether TLS begins before the first word."""
        return self.port == IMPLICIT_TLS_PORT and not self.starttls


@dataclass(frozen=True, slots=True)
class ImapAccount:
    """Where and how an account's mail is looked for."""

    host: str
    port: int = 993
    ssl: bool = True
    """TLS begins before the first word."""
    starttls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    folder: str = "INBOX"
    extra_folders: tuple[str, ...] = ()
    timeout_s: float = 30.0
    """For each command."""
    ca_file: Path | None = None
    verify: bool = True
    client_cert: Path | None = None
    client_key: Path | None = None
    password_env: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One end of a route."""

    name: str
    """As in the configuration: the labels ``from`` and ``to``."""
    address: str
    smtp: SmtpAccount | None = None
    imap: ImapAccount | None = None

    @property
    def domain(self) -> str:
        """Return the domain of the address."""
        return self.address.rpartition("@")[2]
