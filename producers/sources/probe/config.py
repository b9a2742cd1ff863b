"""The probe's configuration: the exporter's ``config.yaml``, the ``.env`` beside it, and the environment.

Mistakes are collected and told with file, key and what was expected; unknown keys are warnings,
because the file may have been written for another version of the exporter.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from pipeline.core.errors import ConfigError
from pipeline.kit.references import expand, variables
from pipeline.kit.settings_shape import Place, dotted, is_path, model_in
from pipeline.kit.settings_yaml import MAX_BYTES, read_yaml
from pipeline.kit.values import Address
from producers.sources.probe.accounts import Account, ImapAccount, SmtpAccount
from producers.sources.probe.config_model import (
    AccountKeys,
    ExporterKeys,
    FileKeys,
    ImapKeys,
    RouteKeys,
    SmtpKeys,
)

ENV_FILE: Final = ".env"
METRICS_USER: Final = "METRICS_USER"
METRICS_PASS: Final = "METRICS_PASS"  # noqa: S105  the name of a variable
API_KEY: Final = "API_KEY"
DEBUG: Final = "DEBUG"
WRITE_EXAMPLE_CONFIG: Final = "WRITE_EXAMPLE_CONFIG"

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_IMAP_PORT: Final = {True: 993, False: 143}
_EXPECTED: Final = {
    "missing": "is missing",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a number",
    "string_type": "expected text",
    "string_too_short": "expected text that is not empty",
    "string_too_long": "expected a shorter text",
    "string_pattern_mismatch": "expected the beginning of a metric's name: letters, digits, _ and :",
    "model_type": "expected keys with values",
    "model_attributes_type": "expected keys with values",
    "dict_type": "expected keys with values",
    "tuple_type": "expected a list",
}
_LIMITS: Final = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "of at least"),
    "less_than_equal": ("le", "of at most"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """One of ``tests``: who sends to whom, and how often."""

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
class Doors:
    """What the environment says of the HTTP service."""

    metrics_user: str | None = None
    metrics_password: SecretStr | None = None
    api_key: SecretStr | None = None
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """One state of the file."""

    path: Path
    mtime_ns: int
    size: int
    digest: str
    """Of the file and of the ``.env`` beside it: another one means that something changed."""
    exporter: ExporterKeys
    routes: tuple[Route, ...]
    doors: Doors
    warnings: tuple[str, ...] = ()

    def listen(self, default: Address) -> Address:
        """Return where to listen: as the file says, else *default*."""
        host, port = self.exporter.listen_addr, self.exporter.listen_port
        return Address(host or default.host, default.port if port is None else port)


@dataclass(slots=True)
class _Reading:
    path: Path
    environ: Mapping[str, str]
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    variables: dict[Place, str] = field(default_factory=dict)
    """The first variable that each value refers to."""

    def mistake(self, place: Place, sentence: str) -> None:
        self.mistakes.append(f"{self.path}: {dotted(place)}: {sentence}")


def fingerprint(path: Path) -> str:
    """Return what changes when the file or the ``.env`` beside it does.

    Raises:
        ConfigError: The file cannot be read.
    """
    env = path.parent / ENV_FILE
    return hashlib.sha256(
        _bytes(path) + b"\0" + (_bytes(env) if env.is_file() else b"")
    ).hexdigest()


def read_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration in *path*; the process's *environ* wins over ``.env``.

    Raises:
        ConfigError: All mistakes.
    """
    raw, digest = _bytes(path), fingerprint(path)
    state = path.stat()
    every = {**environment_beside(path), **environ}
    reading = _Reading(path, every)
    try:
        tree, mistakes = read_yaml(raw)
    except ConfigError as exc:
        raise ConfigError([f"{path}: {text}" for text in exc.mistakes]) from exc
    reading.mistakes += [f"{path}: {text}" for text in mistakes]
    tree = _expanded(reading, tree, ())
    reading.warnings += [f"{path}: {text}" for text in _unknown(FileKeys, tree, ())]
    keys = _validated(reading, tree)
    routes = _routes(reading, keys) if keys is not None else ()
    if reading.mistakes or keys is None:
        raise ConfigError(reading.mistakes)
    return Config(
        path=path,
        mtime_ns=state.st_mtime_ns,
        size=state.st_size,
        digest=digest,
        exporter=keys.exporter,
        routes=routes,
        doors=_doors(path, every),
        warnings=tuple(reading.warnings),
    )


def is_true(text: str | None) -> bool:
    """Tell whether the text of an environment variable says yes."""
    return (text or "").strip().lower() in _TRUE


def environment_beside(path: Path) -> dict[str, str]:
    """Return the variables of the ``.env`` beside the file; none if there is no such file."""
    beside = path.parent / ENV_FILE
    if not beside.is_file():
        return {}
    try:
        found = dotenv_values(beside, interpolate=False, encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise ConfigError([f"{beside}: cannot be read"]) from exc
    return {name: value for name, value in found.items() if value is not None}


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a path"
        raise ConfigError([f"{path}: the file cannot be read: {reason}"]) from exc


def _doors(path: Path, environ: Mapping[str, str]) -> Doors:
    user, password = environ.get(METRICS_USER) or None, environ.get(METRICS_PASS) or None
    if (user is None) != (password is None):
        raise ConfigError([f"{path}: expected {METRICS_USER} and {METRICS_PASS}, or neither"])
    key = environ.get(API_KEY)
    return Doors(
        metrics_user=user,
        metrics_password=SecretStr(password) if password else None,
        api_key=SecretStr(key) if key else None,
        debug=is_true(environ.get(DEBUG)),
    )


def _expanded(reading: _Reading, value: Any, place: Place) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(reading, item, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(reading, item, (*place, at)) for at, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    names = variables(value)
    if names:
        reading.variables[place] = names[0]
    where = _whose(place)
    return expand(value, reading.environ, lambda text: reading.mistake(place, f"{text}{where}"))


def _whose(place: Place) -> str:
    """Name the account that a value belongs to, for whoever has to set a variable."""
    if len(place) > 2 and place[0] == "accounts":
        return f" (account {place[1]}, {place[2]}); {ENV_FILE} beside the file is read, too"
    return ""


def _unknown(model: type[BaseModel], tree: Any, at: Place) -> Iterator[str]:
    """Yield a warning for each key that nobody reads."""
    if not isinstance(tree, dict):
        return
    known = {info.alias or name: info for name, info in model.model_fields.items()}
    for key, value in tree.items():
        info = known.get(key)
        if info is None:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"; the nearest known key is {near[0]}" if near else ""
            yield f"{dotted((*at, key))}: unknown key, left out{hint}"
            continue
        below = model_in(info.annotation)
        if below is None:
            continue
        for place, item in _items(value, (*at, key), named=below is AccountKeys):
            yield from _unknown(below, item, place)


def _items(value: Any, at: Place, *, named: bool) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, list):
        yield from (((*at, place), item) for place, item in enumerate(value))
    elif named and isinstance(value, dict):
        yield from (((*at, name), item) for name, item in value.items())
    else:
        yield at, value


def _validated(reading: _Reading, tree: dict[str, Any]) -> FileKeys | None:
    try:
        return FileKeys.model_validate(tree)
    except ValidationError as exc:
        for error in exc.errors(include_url=False):
            reading.mistake(error["loc"], _sentence(error))
        return None


def _sentence(error: ErrorDetails) -> str:
    limit = _LIMITS.get(error["type"])
    if limit is not None:
        name, words = limit
        return f"expected a number {words} {error['ctx'][name]:g}"
    return _EXPECTED.get(error["type"], "expected another value")


def _routes(reading: _Reading, keys: FileKeys) -> tuple[Route, ...]:
    accounts = {
        name: _account(reading, name, account, keys.exporter)
        for name, account in keys.accounts.items()
    }
    routes: dict[str, Route] = {}
    for place, test in enumerate(keys.tests):
        route = _route(reading, place, test, accounts, keys.exporter)
        if route is None:
            continue
        if route.name in routes:
            reading.mistake(("tests", place, "name"), "expected a name that no other test has")
        routes[route.name] = route
    return tuple(routes.values())


def _route(
    reading: _Reading,
    place: int,
    test: RouteKeys,
    accounts: Mapping[str, Account],
    exporter: ExporterKeys,
) -> Route | None:
    ends = []
    for key, name, leg in (("from", test.sender, "smtp"), ("to", test.recipient, "imap")):
        account = accounts.get(name)
        if account is None:
            near = difflib.get_close_matches(name, accounts, n=1, cutoff=0.6)
            hint = f" such as {near[0]}" if near else ""
            reading.mistake(("tests", place, key), f"expected the name of an account{hint}")
        elif getattr(account, leg) is None:
            reading.mistake(("accounts", name, leg), f"is missing: tests[{place}] needs it")
        elif not account.address:
            reading.mistake(
                ("accounts", name, "address"),
                "expected the account's mail address, as no login has one",
            )
        else:
            ends.append(account)
    if len(ends) < 2:
        return None
    return Route(
        name=test.name or f"{test.sender}→{test.recipient}",
        sender=ends[0],
        recipient=ends[1],
        interval_s=test.check_interval_seconds or exporter.check_interval_seconds,
        receive_timeout_s=test.receive_timeout_seconds or exporter.receive_timeout_seconds,
    )


def _account(reading: _Reading, name: str, keys: AccountKeys, exporter: ExporterKeys) -> Account:
    place: Place = ("accounts", name)
    logins = [one.username for one in (keys.smtp, keys.imap) if one is not None and one.username]
    address = keys.address or next((login for login in logins if "@" in login), "")
    return Account(
        name,
        address,
        None if keys.smtp is None else _smtp(reading, keys.smtp, exporter, (*place, "smtp")),
        None if keys.imap is None else _imap(reading, keys.imap, exporter, (*place, "imap")),
    )


def _smtp(reading: _Reading, keys: SmtpKeys, exporter: ExporterKeys, at: Place) -> SmtpAccount:
    if (keys.username is None) != (keys.password is None):
        reading.mistake(at, "expected username and password, or neither")
    return SmtpAccount(
        host=keys.host,
        port=keys.port,
        starttls=keys.starttls,
        username=keys.username or None,
        password=_plain(keys.password),
        timeout_s=keys.timeout_seconds or exporter.smtp_timeout_seconds,
        source_address=keys.source_address,
        verify=keys.verify,
        password_env=reading.variables.get((*at, "password")),
        helo=keys.helo,
        **_files(reading, keys, at),
    )


def _imap(reading: _Reading, keys: ImapKeys, exporter: ExporterKeys, at: Place) -> ImapAccount:
    return ImapAccount(
        host=keys.host,
        port=keys.port or _IMAP_PORT[keys.ssl],
        ssl=keys.ssl,
        starttls=keys.starttls,
        username=keys.username,
        password=keys.password.get_secret_value(),
        folder=keys.folder,
        extra_folders=keys.extra_folders,
        timeout_s=keys.timeout_seconds or exporter.imap_timeout_seconds,
        verify=keys.verify,
        password_env=reading.variables.get((*at, "password")),
        **_files(reading, keys, at),
    )


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _files(reading: _Reading, keys: SmtpKeys | ImapKeys, at: Place) -> dict[str, Path]:
    """Return the files that a leg names, beside the configuration unless absolute."""
    found = {}
    for name, info in type(keys).model_fields.items():
        path = getattr(keys, name)
        if is_path(info.annotation) and path is not None:
            found[name] = reading.path.parent.absolute() / path
            if not found[name].is_file():
                reading.mistake((*at, name), "expected the path of a file that is there")
    return found
