"""Mail servers that behave as no real one can be made to: they hang, drip, flood, drop, refuse."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_HERE: Final = "127.0.0.1"
_END: Final = b"\r\n.\r\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, talk: Callable[[socket.socket, threading.Event], None]) -> None:
        super().__init__((_HERE, 0), socketserver.BaseRequestHandler)
        self.over = threading.Event()
        self.calls = 0
        self._talk = talk

    def finish_request(self, request: object, client_address: object) -> None:
        """Talk until the other side has gone."""
        self.calls += 1
        assert isinstance(request, socket.socket)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            self._talk(request, self.over)


@contextmanager
def serving(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[_Server]:
    """Yield a server that runs *talk* with each connection; its event is set at the end."""
    with _Server(talk) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def port_of(server: _Server) -> int:
    """Return where *server* listens."""
    return int(server.server_address[1])


def silent(connection: socket.socket, over: threading.Event) -> None:
    """Take connections and never say a word."""
    over.wait()


def dripping(connection: socket.socket, over: threading.Event) -> None:
    """Say one letter after the other and never end a line."""
    while not over.wait(0.05):
        connection.sendall(b"2")


def saying(*lines: str) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that says *lines*, one for each line that it hears, then hangs up."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        heard = connection.makefile("rb")
        for number, line in enumerate(lines):
            if number:
                heard.readline()
            connection.sendall(line.encode() + b"\r\n")

    return talk


def drops_after_data(port: int) -> Callable[[socket.socket, threading.Event], None]:
    """Return a way to the SMTP server at *port* that breaks once that server has taken a mail."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        with socket.create_connection((_HERE, port)) as real:
            ending = b""
            while not over.is_set():
                ready, _, _ = select.select([connection, real], [], [], 0.1)
                if connection in ready:
                    said = connection.recv(65536)
                    real.sendall(said)
                    ending = (ending + said)[-len(_END) :]
                    if ending == _END:
                        real.recv(65536)  # "250 queued", which nobody hears
                        return
                if real in ready:
                    connection.sendall(real.recv(65536))

    return talk


def imap(
    *,
    capability: str = "IMAP4rev1",
    login: str = "OK done",
    search: Callable[[socket.socket, str, threading.Event], None] | None = None,
    idle: str = "+ idling",
) -> Callable[[socket.socket, threading.Event], None]:
    """Return an IMAP server with an empty INBOX.

    Args:
        capability: What it says that it can.
        login: Its answer to a login.
        search: How it answers a search: gets the connection, the tag, and the end of the test.
        idle: Its answer to IDLE; without a plus sign that is a refusal.
    """

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"* OK rude\r\n")
        heard = connection.makefile("rb")
        for raw in heard:
            tag, _, command = raw.decode("latin-1").strip().partition(" ")
            name = command.upper().removeprefix("UID ").partition(" ")[0]
            if name == "SEARCH" and search is not None:
                search(connection, tag, over)
                continue
            if name == "IDLE":
                connection.sendall(f"{idle.replace('TAG', tag)}\r\n".encode())
                if "+" not in idle:
                    continue
                heard.readline()
            untagged = {
                "CAPABILITY": f"* CAPABILITY {capability}\r\n",
                "LIST": '* LIST () "/" INBOX\r\n',
                "EXAMINE": "* 0 EXISTS\r\n",
                "SEARCH": "* SEARCH\r\n",
                "LOGOUT": "* BYE\r\n",
            }.get(name, "")
            answer = login if name in {"LOGIN", "AUTHENTICATE"} else "OK done"
            connection.sendall(f"{untagged}{tag} {answer}\r\n".encode())

    return talk


def hang(connection: socket.socket, tag: str, over: threading.Event) -> None:
    """Never answer."""
    over.wait()


def flood(connection: socket.socket, tag: str, over: threading.Event) -> None:
    """Answer without end."""
    while not over.is_set():
        connection.sendall(b"* SEARCH" + b" 1234567" * 5000 + b"\r\n")


def huge(connection: socket.socket, tag: str, over: threading.Event) -> None:
    """Announce an answer of 10 GB, and begin with it."""
    connection.sendall(b"* 1 FETCH (BODY[] {10000000000}\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


def garbage(connection: socket.socket, tag: str, over: threading.Event) -> None:
    """Answer with what is no IMAP."""
    connection.sendall(b"* SEARCH ((((\xff\xfe {nonsense\r\n" + tag.encode() + b" OK (\r\n")


def goodbye(connection: socket.socket, tag: str, over: threading.Event) -> None:
    """Hang up."""
    connection.sendall(b"* BYE going down\r\n")
    connection.shutdown(socket.SHUT_RDWR)
