"""A WHM server that is not there: API 1 on a socket, with the traps that real ones have.

It knows ``emailtrack_search`` and ``emailtrack_user_stats``, filters, sorting and chunks, and stops at
250 rows of a type whatever is asked.  Several servers may share one socket, told apart by their users.
"""

from __future__ import annotations

import bisect
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson

SAMPLES = Path(__file__).parents[1] / "samples" / "cpanel"
SEARCH, STATS = "emailtrack_search", "emailtrack_user_stats"
KINDS = ("success", "defer", "failure", "inprogress")
NUMERIC = frozenset({"actionunixtime", "sendunixtime", "size", "transport_is_remote"})
CAP = 250

Row = dict[str, Any]
Parameters = Mapping[str, str]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "lt": lambda a, b: a < b,
    "lt_equal": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gt_equal": lambda a, b: a >= b,
}
_MATCH: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda a, b: a == b,
    "begins": lambda a, b: a.startswith(b),
    "contains": lambda a, b: b in a,
}


class Reply(NamedTuple):
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes


def sample(name: str) -> Any:
    """Return a recorded answer."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


def sample_rows() -> list[Row]:
    """Return the rows of the recorded search: each type, and inbound mail."""
    rows: list[Row] = sample(SEARCH)["data"]["records"]
    return rows


def row_like(kind: str, **fields: Any) -> Row:
    """Return the recorded row of a type, with other *fields*."""
    return {**next(row for row in sample_rows() if row["type"] == kind), **fields}


def page(text: str) -> Reply:
    """Return an HTML page."""
    return Reply(200, "text/html; charset=utf-8", text.encode())


def refused(function: str, reason: str) -> Reply:
    """Return the answer of a function that failed."""
    return json_reply(
        {"metadata": {"version": 1, "command": function, "result": 0, "reason": reason}}
    )


class Whm:
    """One server: its mail log, and how it answers."""

    def __init__(self, user: str = "root", token: str = "TOKEN1234567890ABCDEF") -> None:
        self.user, self.token = user, token
        self.silent_cap = True
        """Whether it stops at 250 rows of a type, whatever is asked."""
        self.tells_overflow = True
        self.ignored: frozenset[str] = frozenset()
        """Columns by which it does not filter."""
        self.mood: Callable[[str], Reply | None] = lambda _function: None
        """What it answers instead, by function."""
        self.held = threading.Event()
        """While clear, no answer is given."""
        self.held.set()
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._by: dict[str, list[tuple[int, int]]] = {"actionunixtime": [], "sendunixtime": []}

    def add(self, *rows: Row) -> None:
        """Write rows into its log."""
        with self._lock:
            for row in rows:
                for column, index in self._by.items():
                    bisect.insort(index, (int(row[column]), len(self._rows)))
                self._rows.append(row)

    def count(self, function: str = SEARCH) -> int:
        """Return how often *function* was called."""
        with self._lock:
            return sum(one == function for one, _ in self.calls)

    @contextmanager
    def call(self, function: str, parameters: Parameters) -> Iterator[None]:
        """Note a call for as long as it is answered."""
        with self._lock:
            self.calls.append((function, dict(parameters)))
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def answer(self, function: str, parameters: Parameters) -> Reply:
        """Return the answer to one call."""
        other = self.mood(function)
        if other is not None:
            return other
        if parameters.get("api.version") != "1":
            return json_reply({"cpanelresult": {"apiversion": "2", "error": "unknown API"}})
        if function == SEARCH:
            return self._search(parameters)
        if function == STATS:
            return self._stats(parameters)
        return refused(function, f"Unknown app ({function}) requested.")

    def _search(self, parameters: Parameters) -> Reply:
        filters = list(_filters(parameters))
        if any(kind not in (*_COMPARE, *_MATCH) for _, kind, _ in filters):
            return refused(SEARCH, "Invalid filter type.")
        column = parameters.get("api.sort.a.field", "")
        sorts = parameters.get("api.sort.enable") == "1"
        if sorts and column in NUMERIC and parameters.get("api.sort.a.method") != "numeric":
            return refused(SEARCH, "A numeric column must be sorted by a numeric method.")
        wanted = {kind for kind in KINDS if parameters.get(kind) == "1"}
        found = [
            row
            for row in self._candidates(filters)
            if row["type"] in wanted
            and all(
                field in self.ignored or _matches(row, field, kind, arg)
                for field, kind, arg in filters
            )
        ]
        kept = self._capped(found, int(parameters.get("max_results_by_type", "0")))
        if sorts:
            kept.sort(key=lambda row: int(row[column]))
        metadata: dict[str, Any] = {"version": 1, "command": SEARCH, "result": 1, "reason": "OK"}
        metadata["overflowed"] = int(self.tells_overflow and len(kept) < len(found))
        if parameters.get("api.chunk.enable") == "1":
            size, start = int(parameters["api.chunk.size"]), int(parameters["api.chunk.start"])
            kept = kept[start - 1 : start - 1 + size]
        return json_reply({"metadata": metadata, "data": {"records": kept}})

    def _candidates(self, filters: Sequence[tuple[str, str, str]]) -> Iterable[Row]:
        """Return the rows between the bounds of one column, which is quick to find."""
        with self._lock:
            for column, index in self._by.items():
                bounds = {kind: int(arg) for field, kind, arg in filters if field == column}
                if {"gt_equal", "lt"} <= bounds.keys() and column not in self.ignored:
                    first = bisect.bisect_left(index, (bounds["gt_equal"], 0))
                    end = bisect.bisect_left(index, (bounds["lt"], 0))
                    return [self._rows[place] for _, place in index[first:end]]
            return list(self._rows)

    def _capped(self, rows: Iterable[Row], asked: int) -> list[Row]:
        caps = [cap for cap in (asked, CAP if self.silent_cap else 0) if cap]
        most = min(caps, default=1 << 60)
        counts: Counter[str] = Counter()
        kept = []
        for row in rows:
            counts[row["type"]] += 1
            if counts[row["type"]] <= most:
                kept.append(row)
        return kept

    def _stats(self, parameters: Parameters) -> Reply:
        start, end = int(parameters["starttime"]), int(parameters["endtime"])
        names = {"success": "SUCCESSCOUNT", "failure": "FAILCOUNT", "defer": "DEFERCOUNT"}
        records: dict[tuple[str, str], dict[str, Any]] = {}
        with self._lock:
            index = self._by["sendunixtime"]
            places = index[
                bisect.bisect_left(index, (start, 0)) : bisect.bisect_left(index, (end, 0))
            ]
            rows = [self._rows[place] for _, place in places]
        for row in rows:
            user, domain = row["user"], row["domain"]
            record = records.setdefault(
                (user, domain),
                {"USER": user, "DOMAIN": domain, "PRIMARY_DOMAIN": domain, "OWNER": "root"},
            )
            name = names.get(row["type"])
            if name:
                record[name] = record.get(name, 0) + 1
        metadata = {"version": 1, "command": STATS, "result": 1, "reason": "OK"}
        return json_reply({"metadata": metadata, "data": {"records": list(records.values())}})


def _filters(parameters: Parameters) -> Iterator[tuple[str, str, str]]:
    """Yield field, type and argument of each filter; without a type they compare texts."""
    if parameters.get("api.filter.enable") != "1":
        return
    for name, field in parameters.items():
        if name.startswith("api.filter.") and name.endswith(".field"):
            stem = name.removesuffix("field")
            yield field, parameters.get(stem + "type", "contains"), parameters[stem + "arg0"]


def _matches(row: Row, field: str, kind: str, arg: str) -> bool:
    if kind in _COMPARE:
        return _COMPARE[kind](float(row.get(field) or 0), float(arg))
    return _MATCH[kind](str(row.get(field, "")), arg)


def json_reply(answer: Any, status: int = 200) -> Reply:
    """Return *answer* as JSON."""
    return Reply(status, "application/json", orjson.dumps(answer))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Socket

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        function = url.path.rpartition("/")[2]
        parameters = dict(parse_qsl(url.query, keep_blank_values=True))
        whm = self.server.servers.get(self.headers.get("Authorization", ""))
        if not url.path.startswith("/json-api/"):
            self._send(page("<!DOCTYPE html><html><head><title>WHM Login</title></head></html>"))
        elif whm is None:
            self._send(json_reply(sample("errors")["other_api"], 403))
        else:
            with whm.call(function, parameters):
                whm.held.wait()
                reply = whm.answer(function, parameters)
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        try:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
        except OSError:  # whoever asked has given up
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name in the base class
        """Say nothing."""


class _Socket(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, servers: Iterable[Whm]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.servers = {f"whm {one.user}:{one.token}": one for one in servers}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let clients come and go."""


@contextmanager
def serving(*servers: Whm) -> Iterator[str]:
    """Serve at a loopback address; yield its URL."""
    socket = _Socket(servers)
    thread = threading.Thread(target=socket.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.server_address[1]}"
    finally:
        for one in servers:
            one.held.set()
        socket.shutdown()
        thread.join()
        socket.server_close()
