"""Reading the probe's file: the exporter's own ``config.yaml``, with its ``.env`` beside it.

All mistakes are collected and none shows a value, which may be a password in the wrong place.
An unknown key is no mistake: the file may be one that another version of the exporter reads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipeline.core.errors import ConfigError
from pipeline.core.event import RESERVED_VALUES
from pipeline.kit.settings_yaml import MAX_BYTES, read_yaml, shown
from pipeline.kit.values import Address, is_mail_address
from producers.sources.probe.accounts import Account, ImapAccount, SmtpAccount
from producers.sources.probe.config import DEFAULT_LISTEN, Access, Options, ProbeConfig, Route
from producers.sources.probe.config_keys import (
    ACCOUNT,
    EXPORTER,
    IMAP,
    SECTIONS,
    SMTP,
    TEST,
    Check,
    truth,
    unknown,
)
from producers.sources.probe.environment import NAME as ENV_FILE
from producers.sources.probe.environment import Expansion, Place, read_env_file
from producers.sources.probe.outcome import SHORTEST_SECRET

_SMTP_PORT, _IMAP_TLS_PORT, _IMAP_PORT = 587, 993, 143
_IMAP_TIMEOUT_S: Final = 30.0
_MOST_LABEL: Final = 100
_MOST_ROUTE: Final = 255
"""As events have it."""


def read_config(
    path: Path, environ: Mapping[str, str], listen: Address = DEFAULT_LISTEN
) -> ProbeConfig:
    """Return what *path* says; ``.env`` beside it gives variables that *environ* has not.

    Args:
        path: The file.
        environ: Variables of this process: they win.
        listen: Where the endpoints are, unless the file says.

    Raises:
        ConfigError: All mistakes, each with the file and the key.
    """
    variables = {**read_env_file(path.parent / ENV_FILE), **environ}
    raw, status = _content(path)
    try:
        tree, mistakes = read_yaml(raw)
    except ConfigError as exc:
        raise ConfigError([f"{path}: {text}" for text in exc.mistakes]) from exc
    reading = _Reading(path, Expansion(variables))
    reading.mistakes += mistakes
    options, routes = reading.read(tree)
    access = _access(variables, reading)
    reading.tell_unset(tree)
    if reading.mistakes:
        raise ConfigError([f"{path}: {text}" for text in dict.fromkeys(reading.mistakes)])
    address = options.listen(listen)
    if not address.is_loopback and not (access.metrics_user and access.metrics_pass):
        reading.warnings.append(
            f"{address}: others can read /metrics: set METRICS_USER and METRICS_PASS"
        )
    secrets = {*reading.secrets, access.metrics_pass or "", access.api_key or ""}
    return ProbeConfig(
        path,
        status.st_mtime_ns,
        status.st_size,
        options,
        routes,
        access,
        tuple(sorted((one for one in secrets if len(one) >= SHORTEST_SECRET), key=len)[::-1]),
        tuple(reading.warnings),
    )


def _content(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError([f"{path}: expected a file"])
            return file.read(MAX_BYTES + 1), status
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a path"
        raise ConfigError([f"{path}: the file cannot be read: {reason}"]) from exc


def _access(variables: Mapping[str, str], reading: _Reading) -> Access:
    user, password = variables.get("METRICS_USER"), variables.get("METRICS_PASS")
    if bool(user) != bool(password):
        reading.mistakes.append("METRICS_USER, METRICS_PASS: expected both to be set, or neither")
    debug = False
    try:
        debug = truth(variables.get("DEBUG") or "false")
    except ValueError:
        reading.warnings.append("DEBUG: expected true or false; it counts as false")
    return Access(user or None, password or None, variables.get("API_KEY") or None, debug=debug)


class _Reading:
    """One file while it is read."""

    def __init__(self, path: Path, expansion: Expansion) -> None:
        self._folder = path.parent
        self._expansion = expansion
        self.mistakes: list[str] = []
        self.warnings: list[str] = []
        self.secrets: list[str] = []

    def read(self, tree: dict[str, Any]) -> tuple[Options, tuple[Route, ...]]:
        """Return the options and the routes; what is wrong with them is in ``mistakes``."""
        tree = self._expansion.of(tree)
        self._unknown("", tree, SECTIONS)
        given = self._fields("exporter", tree.get("exporter"), EXPORTER)
        options = Options(**given)
        accounts = self._accounts(tree.get("accounts"), options)
        return options, self._routes(tree.get("tests"), accounts, options)

    def tell_unset(self, tree: dict[str, Any]) -> None:
        """Name each variable that is not set, its key, and the server that it is for."""
        accounts = tree.get("accounts")
        for place, name in self._expansion.unset.items():
            server = ""
            if place[0] == "accounts" and isinstance(accounts, dict):
                section = accounts.get(place[1])
                section = section.get(place[2]) if isinstance(section, dict) else None
                host = section.get("host") if isinstance(section, dict) else None
                server = f" (account {shown(place[1])}, host {shown(host)})" if host else ""
            self.mistakes.append(
                f"{'.'.join(map(shown, place))}{server}: the environment variable {name} is not "
                f"set: set it in the environment, or in {ENV_FILE} beside this file"
            )

    def _unknown(self, place: str, given: Mapping[str, Any], known: Any) -> None:
        self.warnings += [unknown(place, key, known) for key in given if key not in known]

    def _fields(self, place: str, given: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
        """Return the values of a section that are there and fine."""
        if given is None:
            return {}
        if not isinstance(given, dict):
            self.mistakes.append(f"{place}: expected keys with values")
            return {}
        self._unknown(place, given, checks)
        found: dict[str, Any] = {}
        for key, check in checks.items():
            value = given.get(key)
            at = (*place.split("."), key)
            if value is None or at in self._expansion.unset:
                continue
            if key == "password":
                self.secrets.append(str(value))
            try:
                found[key] = check(value)
            except ValueError as exc:
                self.mistakes.append(f"{place}.{key}: expected {exc}")
        return found

    def _accounts(self, given: Any, options: Options) -> dict[str, tuple[Account, Account]]:
        """Return each account as one that sends and as one that receives."""
        if not isinstance(given, dict) or not given:
            self.mistakes.append("accounts: expected accounts by name")
            return {}
        found = {}
        for name, section in given.items():
            place = f"accounts.{name}"
            if "." in name or not name.isprintable() or not 0 < len(name) <= _MOST_LABEL:
                self.mistakes.append(f"accounts.{shown(name)}: expected a name without dots")
            elif not isinstance(section, dict):
                self.mistakes.append(f"{place}: expected keys with values")
            else:
                self._unknown(place, section, ACCOUNT)
                found[name] = self._account(name, section, options)
        return found

    def _account(
        self, name: str, section: dict[str, Any], options: Options
    ) -> tuple[Account, Account]:
        place = f"accounts.{name}"
        smtp = self._smtp(f"{place}.smtp", section.get("smtp"), options)
        imap = self._imap(f"{place}.imap", section.get("imap"))
        users = [one.username or "" for one in (smtp, imap) if one is not None]
        address = str(section.get("address") or "")
        if address and not is_mail_address(address):
            self.mistakes.append(f"{place}.address: expected a mail address")
        named = [user for user in users if is_mail_address(user)]
        if not address and not named and not self._unset_in(place):
            self.mistakes.append(f"{place}.address: expected one, as no username is an address")
        sends = address or (named[0] if named else "")
        takes = address or (named[-1] if named else "")
        return Account(name, sends, smtp, imap), Account(name, takes, smtp, imap)

    def _unset_in(self, place: str) -> bool:
        parts: Place = tuple(place.split("."))
        return any(one[: len(parts)] == parts for one in self._expansion.unset)

    def _smtp(self, place: str, given: Any, options: Options) -> SmtpAccount | None:
        found = self._fields(place, given, SMTP)
        if not self._has_host(place, given, found):
            return None
        port = found.get("port", _SMTP_PORT)
        smtp = SmtpAccount(
            found["host"],
            port,
            starttls=found.get("starttls", port == _SMTP_PORT),
            timeout_s=found.get("timeout_seconds", options.smtp_timeout_seconds),
            source_address=found.get("source_address"),
            helo=found.get("helo"),
            **self._shared(place, found),
        )
        return replace(smtp, username=found.get("username"), password=found.get("password") or None)

    def _imap(self, place: str, given: Any) -> ImapAccount | None:
        found = self._fields(place, given, IMAP)
        if not self._has_host(place, given, found):
            return None
        ssl = found.get("ssl", found.get("port", _IMAP_TLS_PORT) == _IMAP_TLS_PORT)
        imap = ImapAccount(
            found["host"],
            found.get("port", _IMAP_TLS_PORT if ssl else _IMAP_PORT),
            ssl=ssl,
            starttls=not ssl and found.get("starttls", False),
            timeout_s=found.get("timeout_seconds", _IMAP_TIMEOUT_S),
            folder=found.get("folder", "INBOX"),
            extra_folders=found.get("extra_folders", ()),
            **self._shared(place, found),
        )
        return replace(
            imap, username=found.get("username", ""), password=found.get("password") or ""
        )

    def _has_host(self, place: str, given: Any, found: Mapping[str, Any]) -> bool:
        if isinstance(given, dict) and given.get("host") is None:
            self.mistakes.append(f"{place}.host: is missing")
        return "host" in found

    def _shared(self, place: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return what SMTP and IMAP accounts have alike."""
        names = "ca_file", "client_cert", "client_key"
        files = {name: self._folder / found[name] if name in found else None for name in names}
        if files["client_key"] and not files["client_cert"]:
            self.mistakes.append(f"{place}.client_key: expected client_cert beside it")
        for name, file in files.items():
            if file is not None and not file.is_file():
                self.mistakes.append(f"{place}.{name}: expected the path of a file that is there")
        if not found.get("verify", True):
            self.warnings.append(f"{place}.verify: anyone on the way can read mail and password")
        env = self._expansion.names.get((*place.split("."), "password"))
        return {**files, "verify": found.get("verify", True), "password_env": env}

    def _routes(
        self, given: Any, accounts: Mapping[str, tuple[Account, Account]], options: Options
    ) -> tuple[Route, ...]:
        if not isinstance(given, list) or not given:
            self.mistakes.append("tests: expected a list of tests, each with from and to")
            return ()
        routes: dict[str, Route] = {}
        for number, section in enumerate(given):
            place = f"tests.{number}"
            found = self._fields(place, section, TEST)
            ends = [found.get("from"), found.get("to")]
            for key, end in zip(("from", "to"), ends, strict=True):
                if end not in accounts and f"accounts.{end}" not in "".join(self.mistakes):
                    known = ", ".join(map(shown, accounts)) or "none"
                    self.mistakes.append(f"{place}.{key}: expected an account: {known}")
            if not all(end in accounts for end in ends):
                continue
            name = found.get("name") or f"{ends[0]}→{ends[1]}"
            if name in routes or name in RESERVED_VALUES or len(name) > _MOST_ROUTE:
                self.mistakes.append(f"{place}.name: expected a short name that no other test has")
            routes[name] = Route(
                name,
                accounts[str(ends[0])][0],
                accounts[str(ends[1])][1],
                found.get("check_interval_seconds", options.check_interval_seconds),
                found.get("receive_timeout_seconds", options.receive_timeout_seconds),
            )
        return tuple(routes.values())
