"""What every HTTP listener shares: who may connect, how it is bound, and errors as JSON.

A listener that only this machine reaches still checks ``Host`` and wants ``application/json`` on
POST: a web page in a browser on this machine could otherwise post to it, either as a plain form
or by a name that its own DNS points to 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import BasicAuth, hdrs, web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.service import announce, outcome, withdraw
from pipeline.kit.telemetry import scrape
from pipeline.kit.values import Address, Network, is_open

log = logging.getLogger(__name__)

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_BACKLOG: Final = 1024
_STOP_S: Final = 5.0
_ERRNO_SENTENCES: Final = {
    errno.EADDRINUSE: "is taken by another program",
    errno.EACCES: "may not be used by this user (ports below 1024 are reserved)",
    errno.EADDRNOTAVAIL: "is no address of this machine",
}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may use a listener."""

    listen: Address
    """As configured; its host is accepted in ``Host``."""
    allow: tuple[Network, ...] = ()
    """Networks that may connect; empty: any."""
    username: str | None = None
    password: SecretStr | None = None
    """Basic auth, when set."""
    open_paths: frozenset[str] = frozenset({"/health", "/ready"})
    """Paths that need no basic auth, so that supervisors can ask."""
    bodiless: frozenset[str] = frozenset()
    """Paths to post to without a body: a header with a key keeps web pages from it."""

    def require_protection(self, *, has_credentials: bool = False) -> None:
        """Refuse to start a service that strangers could use.

        Raises:
            ConfigError: The address is not loopback, and there are no credentials and no *allow*.
        """
        protected = has_credentials or self.password is not None
        if is_open(self.listen, self.allow, has_credentials=protected):
            raise ConfigError(
                [f"{self.listen}: others can reach this address: expected credentials or allow"]
            )


@dataclass(frozen=True, slots=True)
class Site:
    """A bound listener."""

    address: Address
    """Where it listens: the port that was found, if any free one was asked for."""
    runner: web.AppRunner

    async def stop(self) -> None:
        """Take no more connections, end those that are open, and clean the application up."""
        await self.runner.cleanup()


class AnnouncedSite:
    """A listener that other processes of this machine find by a name."""

    def __init__(self, data_dir: Path, name: str) -> None:
        """Announce it as *name*."""
        self._data_dir = data_dir
        self._name = name
        self._site: Site | None = None

    @property
    def address(self) -> Address | None:
        """Return where it listens; None until it was started."""
        return None if self._site is None else self._site.address

    async def start(self, starting: Awaitable[Site]) -> Address:
        """Await the listener, tell other processes where it is, and return that."""
        self._site = await starting
        announce(self._data_dir, self._name, self._site.address)
        return self._site.address

    async def close(self) -> None:
        """Take back the announcement and take no more connections; those that are open go on."""
        withdraw(self._data_dir, self._name)
        if self._site is not None:
            for site in tuple(self._site.runner.sites):
                await site.stop()

    async def stop(self) -> None:
        """Take back the announcement and stop the listener."""
        withdraw(self._data_dir, self._name)
        if self._site is not None:
            await self._site.stop()


def metrics_response(registry: CollectorRegistry, request: web.Request) -> web.Response:
    """Return the answer to a scrape of *registry*, in the format that the request asks for."""
    body, content_type = scrape(registry, request.headers.get(hdrs.ACCEPT, ""))
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: hdrs.ACCEPT}
    return web.Response(body=body, headers=headers)


def error_response(
    status: int, error: str, detail: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the JSON body that every error has: a constant *error* and a sentence."""
    body = orjson.dumps({"error": error, "detail": detail})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def middlewares(guard: Guard) -> list[Any]:
    """Return aiohttp middlewares that apply *guard* and answer every error as JSON."""

    @web.middleware
    async def errors_as_json(request: web.Request, handler: Answer) -> web.StreamResponse:
        result = await outcome(handler(request))
        if isinstance(result, web.HTTPException):
            return _of_exception(result)
        if isinstance(result, ConnectionError):
            raise result  # the client is gone: nobody to answer
        if isinstance(result, Exception):
            log.error("a request failed", exc_info=result, extra={"path": _route(request)})
            return error_response(500, "internal_error", "The request failed; see the log.")
        return result

    @web.middleware
    async def guarded(request: web.Request, handler: Answer) -> web.StreamResponse:
        return _refused(guard, request) or await handler(request)

    return [errors_as_json, guarded]


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _of_exception(exc: web.HTTPException) -> web.StreamResponse:
    if exc.status < HTTPStatus.BAD_REQUEST:
        raise exc  # a redirect
    status = HTTPStatus(exc.status)
    headers = {name: exc.headers[name] for name in ("Allow", "Retry-After") if name in exc.headers}
    details = {
        HTTPStatus.NOT_FOUND: "There is nothing at this path.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This path takes other methods.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    }
    error = status.phrase.lower().replace(" ", "_").replace("-", "_")
    return error_response(status, error, details.get(status, status.description), headers)


def _refused(guard: Guard, request: web.Request) -> web.Response | None:
    """Return the answer to a request that breaks a rule of the listener, else None."""
    if guard.allow and not is_allowed(guard.allow, request.remote):
        return error_response(403, "forbidden", "This address may not connect.")
    if guard.listen.is_loopback:
        if _host_of(request.headers.get(hdrs.HOST, "")) not in {
            *_LOOPBACK_NAMES,
            guard.listen.host.lower(),
        }:
            return error_response(403, "forbidden", "The Host header names another machine.")
        has_body = request.method in _WITH_BODY and request.path not in guard.bodiless
        if has_body and request.content_type != "application/json":
            return error_response(
                415, "unsupported_media_type", "Expected Content-Type: application/json."
            )
    needs_password = guard.password is not None and request.path not in guard.open_paths
    if needs_password and not is_authorized(guard, request.headers.get(hdrs.AUTHORIZATION, "")):
        challenge = {"WWW-Authenticate": 'Basic realm="mailstream", charset="UTF-8"'}
        return error_response(401, "unauthorized", "Expected basic auth.", challenge)
    return None


def is_allowed(allow: tuple[Network, ...], remote: str | None) -> bool:
    """Tell whether the address *remote* is in one of the networks."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    # A socket that takes both families shows IPv4 peers as ::ffff:a.b.c.d.
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in allow)


def _host_of(header: str) -> str:
    """Return the host of a ``Host`` header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def is_authorized(guard: Guard, header: str) -> bool:
    """Tell whether the header ``Authorization`` has the name and password of *guard*."""
    try:
        given = BasicAuth.decode(header, encoding="utf-8")
    except ValueError:  # UnicodeDecodeError too
        return False
    password = guard.password.get_secret_value() if guard.password is not None else ""
    # Both are always compared, so that the time tells nothing about the name.
    name_fits = same_secret(given.login, guard.username or "")
    return same_secret(given.password, password) and name_fits


def same_secret(given: str, expected: str) -> bool:
    """Compare in a time that depends on neither the content nor the length of *expected*."""
    first, second = (
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, expected)
    )
    return hmac.compare_digest(first, second)


def server_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the TLS context of a listener, or None without a certificate.

    Raises:
        ConfigError: Certificate or key cannot be used.
    """
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The password callback keeps OpenSSL from asking on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError([f"tls_cert, tls_key: {cert} with {key} cannot be used: {exc}"]) from exc
    return context


async def start_site(
    app: web.Application,
    address: Address,
    tls: ssl.SSLContext | None = None,
    *,
    inflate: bool = True,
    drain_s: float = _STOP_S,
) -> Site:
    """Serve *app* at *address*; port 0 takes any free port.

    Args:
        app: What answers.
        address: Where to listen.
        tls: Of :func:`server_tls`.
        inflate: Whether bodies are inflated before anybody counts; no: the app does it, with a cap.
        drain_s: How long requests that are being answered may keep a stop waiting, seconds.

    Raises:
        MailstreamError: The address cannot be bound; one sentence that names it.
    """
    bound = await bind(address)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=drain_s, auto_decompress=inflate)
    try:
        await runner.setup()
        await web.SockSite(runner, bound, ssl_context=tls, backlog=_BACKLOG).start()
    except BaseException:
        bound.close()
        await runner.cleanup()
        raise
    return Site(Address(address.host, bound.getsockname()[1]), runner)


async def bind(address: Address, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Bind one socket: a name with several addresses must not get several free ports.

    Raises:
        MailstreamError: The address cannot be bound; one sentence that names it.
    """
    loop = asyncio.get_running_loop()
    try:
        family, _, _, _, where = (
            await loop.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
        )[0]
        both = family == socket.AF_INET6 and address.host == "::" and socket.has_dualstack_ipv6()
        if kind is socket.SOCK_DGRAM:
            return _bound_datagrams(family, where[:2], both=both)
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except socket.gaierror as exc:
        raise MailstreamError(f"{address}: the name of the host is not known") from exc
    except OSError as exc:
        reason = _ERRNO_SENTENCES.get(exc.errno or 0, f"cannot be used: {exc.strerror}")
        raise MailstreamError(f"{address} {reason}") from exc


def _bound_datagrams(
    family: socket.AddressFamily, where: tuple[Any, ...], *, both: bool
) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound
