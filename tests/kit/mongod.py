"""A stand-in for a MongoDB server: the real wire protocol on a socket, with recorded answers.

It knows the two messages that a driver of today sends: OP_QUERY for its first ``hello`` and OP_MSG
for everything after it (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/).
"""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16 << 20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}


def refusal(code: int, name: str) -> dict[str, Any]:
    """Return the answer to a command that the server refuses."""
    return {"ok": 0.0, "errmsg": f"refused: {name}", "code": code, "codeName": name}


class Mongod:
    """What the server answers, by command; a command that is not known is refused with code 59.

    An aggregation is asked for by its first group's ``_id``, where there is such an answer.
    """

    def __init__(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        self.answers = dict(answers)
        self.asked: list[dict[str, Any]] = []
        self.port = 0

    @property
    def uri(self) -> str:
        """Return its connection string."""
        return f"mongodb://127.0.0.1:{self.port}/"

    def answer(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer to one command."""
        name = next(iter(command))
        if name.lower() in {"hello", "ismaster"}:
            return _HELLO
        if name == "endSessions":
            return {"ok": 1.0}
        self.asked.append(dict(command))
        if name == "aggregate":
            grouped_by = command["pipeline"][0]["$group"]["_id"]
            if grouped_by in [*self.answers]:
                return self.answers[grouped_by]
        return self.answers.get(name, refusal(59, "CommandNotFound"))


class _Connection(socketserver.StreamRequestHandler):
    """One connection of a driver."""

    server: _Server

    def handle(self) -> None:
        while (head := self.rfile.read(_HEADER.size)) and len(head) == _HEADER.size:
            length, request_id, _, opcode = _HEADER.unpack(head)
            body = self.rfile.read(length - _HEADER.size)
            if opcode == _OP_QUERY:
                _, _, rest = body[4:].partition(b"\0")
                reply = struct.pack("<iqii", 8, 0, 0, 1) + self._answered(rest[8:])
                self._send(request_id, _OP_REPLY, reply)
            else:
                assert opcode == _OP_MSG, opcode
                flags, kind = struct.unpack_from("<IB", body)
                assert (flags & 1, kind) == (0, 0), "one section of kind 0 without a checksum"
                more_to_come = flags & 2
                reply = struct.pack("<IB", 0, 0) + self._answered(body[5:])
                if not more_to_come:
                    self._send(request_id, _OP_MSG, reply)

    def _answered(self, document: bytes) -> bytes:
        return bson.encode(self.server.mongod.answer(bson.decode(document)))

    def _send(self, request_id: int, opcode: int, body: bytes) -> None:
        head = _HEADER.pack(_HEADER.size + len(body), 1, request_id, opcode)
        self.wfile.write(head + body)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, mongod: Mongod) -> None:
        self.mongod = mongod
        super().__init__(("127.0.0.1", mongod.port), _Connection)


@contextmanager
def serving(mongod: Mongod) -> Iterator[Mongod]:
    """Serve until the block ends."""
    with _Server(mongod) as server:
        mongod.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield mongod
        finally:
            server.shutdown()
            thread.join()
