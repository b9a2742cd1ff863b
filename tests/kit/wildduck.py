"""WildDuck's REST API as far as names of accounts go, on a socket of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "wildduck-token"
INVALID = {"code": "InvalidToken", "message": "Invalid accessToken value"}
MISSING = {"error": "This user does not exist", "code": "UserNotFound"}


class Api(ThreadingHTTPServer):
    """Answers ``GET /users/{id}`` for the accounts that it is given."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.names = names
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        account = self.path.rpartition("/")[2]
        self.server.asked.append(account)
        if self.headers.get("X-Access-Token") != TOKEN:
            self._answer(403, INVALID)
        elif account in self.server.names:
            name = self.server.names[account]
            self._answer(200, {"success": True, "id": account, "username": name})
        else:
            self._answer(404, MISSING)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: Mapping[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def wildduck_api(names: Mapping[str, str]) -> Iterator[Api]:
    """Yield an API that knows *names* by account id."""
    api = Api(names)
    thread = threading.Thread(target=api.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        thread.join()
        api.server_close()
