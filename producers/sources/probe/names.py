"""Looking up names without a thread: hosts and mail exchangers, each within a hard time-out."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from pipeline.kit.clock import Clock, SystemClock

_HOSTS: Final = Path("/etc/hosts")
_LOOPBACK: Final = ("127.0.0.1", "::1")
TIMEOUT_S: Final = 10.0


class NameFailure(Exception):  # noqa: N818  its errors are values elsewhere: a Failure
    """A name has no address, or nobody would say."""


@dataclass(frozen=True, slots=True)
class MailServers:
    """The mail exchangers of a domain."""

    hosts: tuple[str, ...]
    """Best first; none where the domain has no MX record or takes no mail."""
    lookup_ms: float
    error: str | None = None
    """Why there is no answer; that there are none is an answer."""


class Names:
    """Asks the name servers of this machine; ``/etc/hosts`` comes first, as everywhere."""

    def __init__(
        self,
        *,
        nameservers: Sequence[tuple[str, int]] = (),
        timeout_s: float = TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        """Take the servers to ask, as address and port, in place of the machine's."""
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._resolver = _resolver(nameservers)

    async def addresses(self, host: str) -> list[str]:
        """Return the addresses of *host*, at least one.

        Raises:
            NameFailure: There is none, or nobody answered in time.
        """
        if _is_address(host):
            return [host]
        known = _hosts_file(_changed_at(_HOSTS)).get(host.rstrip(".").lower(), ())
        if not known and host.lower() == "localhost":
            known = _LOOPBACK
        if known:
            return list(known)
        if self._resolver is None:
            return await self._ask_the_system(host)
        answers = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
        found = [address for answer in answers if isinstance(answer, list) for address in answer]
        if not found:
            raise NameFailure(next(answer for answer in answers if isinstance(answer, str)))
        return found

    async def mail_servers(self, domain: str) -> MailServers:
        """Return the mail exchangers of *domain*, and how long that took."""
        begun = self._clock.monotonic()
        answer: list[str] | str = "there is no name server to ask"
        if self._resolver is not None:
            answer = await self._ask(domain, "MX")
        took_ms = (self._clock.monotonic() - begun) * 1000
        if isinstance(answer, str):
            # A domain without MX is a fact, not a failure; so is one that takes no mail (RFC 7505).
            return MailServers((), took_ms, None if answer.startswith(_NO_RECORD) else answer)
        ranked = sorted((int(rank), host) for rank, host in (line.split() for line in answer))
        hosts = (host.rstrip(".").lower() for _, host in ranked)
        return MailServers(tuple(host for host in hosts if host), took_ms)

    async def _ask(self, name: str, kind: str) -> list[str] | str:
        """Return the records as text, or why there are none."""
        assert self._resolver is not None
        try:
            answer = await self._resolver.resolve(
                name, kind, search="." not in name, lifetime=self._timeout_s
            )
        except dns.resolver.NXDOMAIN:
            return f"there is no host or domain {name}"
        except dns.resolver.NoAnswer:
            return f"{_NO_RECORD} {name} ({kind})"
        except dns.exception.Timeout:
            return f"no name server answered for {name} within {self._timeout_s:g} s"
        except (dns.exception.DNSException, OSError, ValueError) as exc:
            return f"looking up {name} failed: {_first_line(exc)}"
        return [record.to_text() for record in answer]

    async def _ask_the_system(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except TimeoutError as exc:
            raise NameFailure(f"no answer for {host} within {self._timeout_s:g} s") from exc
        except (OSError, UnicodeError) as exc:
            raise NameFailure(f"looking up {host} failed: {_first_line(exc)}") from exc
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


_NO_RECORD: Final = "there is no record of"


def _resolver(nameservers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver | None:
    if not nameservers:
        try:
            return dns.asyncresolver.Resolver()
        except (dns.exception.DNSException, OSError):
            return None  # no /etc/resolv.conf: the system's own way of looking up is left
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
    return resolver


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _hosts_file(changed_at: int) -> dict[str, tuple[str, ...]]:  # noqa: ARG001  part of the key
    """Return the addresses of each name in the hosts file; read again when it has changed."""
    names: dict[str, tuple[str, ...]] = {}
    try:
        text = _HOSTS.read_text(errors="replace")
    except OSError:
        return names
    for line in text.splitlines():
        address, *rest = line.partition("#")[0].split() or [""]
        if _is_address(address):
            for name in rest:
                key = name.lower()
                names[key] = (*names.get(key, ()), address)
    return names


def _first_line(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
