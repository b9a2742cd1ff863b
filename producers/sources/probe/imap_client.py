"""imapclient over a socket that is ours: it can be cut at any time, and answers are bounded."""

from __future__ import annotations

import imaplib
import io
import re
import socket
import ssl
from typing import Any, Final, cast

from imapclient import IMAPClient

from producers.sources.probe.imap_failures import TOO_LONG, TlsWanted

MOST_BYTES: Final = 4 << 20
"""Of one command's answers: a mailbox of 100,000 mails lists its numbers in a sixth of that."""

_QUOTA: Final = re.compile(r"([A-Z]+) (\d+) (\d+)")


class _Wire(imaplib.IMAP4):
    """The protocol over a socket that is connected already."""

    def __init__(self, sock: socket.socket, host: str, port: int) -> None:
        self._connected = sock
        self.budget = MOST_BYTES
        super().__init__(host, port)

    def _create_socket(self, timeout: float | None = None) -> socket.socket:  # noqa: ARG002  imaplib's
        return self._connected

    def read(self, size: int) -> bytes:
        """Read a literal, unless the server announces more than anyone asked for."""
        self._spend(size)
        return super().read(size)

    def readline(self) -> bytes:
        """Read a line."""
        line = super().readline()
        self._spend(len(line))
        return line

    def begin_tls(self, sock: ssl.SSLSocket) -> None:
        """Go on over *sock*; what was read before TLS and not used is thrown away."""
        self.sock = sock
        self.file = sock.makefile("rb")
        self._tls_established = True

    def buffered(self) -> bool:
        """Tell whether bytes wait in here, where no one who watches the socket sees them."""
        left = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            return bool(cast("io.BufferedReader", self.file).peek(1))
        except OSError:
            return False
        finally:
            self.sock.settimeout(left)

    def begin_idle(self) -> tuple[str, bool] | None:
        """Return the command's tag and whether anything came before its answer; None if refused."""
        tag = self._command("IDLE")
        news = False
        while self._get_response() is not None:  # None is the answer, "+ idling"
            if self.tagged_commands[tag] is not None:
                del self.tagged_commands[tag]
                return None
            news = True
        return tag, news

    def _spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise self.abort(TOO_LONG)


class Client(IMAPClient):  # type: ignore[misc]  # imapclient has no types
    """An IMAP connection; all methods block, within the socket's time-out."""

    def __init__(self, sock: socket.socket, host: str, port: int, timeout_s: float) -> None:
        """Read the greeting from *sock*."""
        self._connected = sock
        sock.settimeout(timeout_s)
        super().__init__(host, port, ssl=isinstance(sock, ssl.SSLSocket), timeout=timeout_s)
        self.normalise_times = False  # times with their zone

    def fresh(self) -> None:
        """Allow the next command the full measure of answers."""
        self._imap.budget = MOST_BYTES

    def ask_for_tls(self) -> None:
        """Ask to begin TLS; the handshake is the caller's."""
        if not self.has_capability("STARTTLS"):
            raise TlsWanted("the server does not offer STARTTLS")
        typ, answer = self._imap._simple_command("STARTTLS")  # noqa: SLF001  imapclient would shake hands, too
        self._checkok("starttls", typ, answer)

    def begin_tls(self, sock: ssl.SSLSocket) -> None:
        """Go on over *sock*."""
        self._imap.begin_tls(sock)
        self._starttls_done = True
        self._ask_again_what_it_can()

    def log_in(self, name: str, password: str) -> None:
        """Log in; a password never goes where the server wants TLS first."""
        if self._imap.state == "AUTH":
            return  # the server knows us by other means (PREAUTH)
        safe = isinstance(self._imap.sock, ssl.SSLSocket)
        if self.has_capability("LOGINDISABLED") and not (
            safe and self.has_capability("AUTH=PLAIN")
        ):
            raise TlsWanted("the server takes no login before TLS: set imap.ssl or imap.starttls")
        if self.has_capability("AUTH=PLAIN"):
            self.plain_login(name, password)
        else:
            self.login(name, password)
        self._ask_again_what_it_can()

    def begin_idle(self) -> bool | None:
        """Ask to be told of changes; return whether there are any already, None if refused."""
        begun = self._imap.begin_idle()
        if begun is None:
            return None
        self._idle_tag, news = begun
        return bool(news or self._imap.buffered())

    def raw_search(self, criteria: Any, charset: str | None = None) -> list[int]:
        """Return the UIDs that match, oldest first."""
        self.fresh()
        return sorted(int(uid) for uid in self.search(criteria, charset))

    def quotas(self, folder: str) -> list[tuple[str, int, int]]:
        """Return resource, usage and limit of each quota that holds for *folder*."""
        self.fresh()
        typ, answer = self._imap.getquotaroot(self._normalise_folder(folder))
        self._checkok("getquotaroot", typ, answer)
        lines = [line.decode("latin-1") for line in answer[1] if isinstance(line, bytes)]
        return [
            (name, int(usage), int(limit))
            for line in lines
            for name, usage, limit in _QUOTA.findall(line.rpartition("(")[2])
        ]

    def _ask_again_what_it_can(self) -> None:
        self._cached_capabilities = None
        self._imap.untagged_responses.pop("CAPABILITY", None)

    def _create_IMAP4(self) -> _Wire:  # noqa: N802  imapclient's name
        return _Wire(self._connected, self.host, self.port)
