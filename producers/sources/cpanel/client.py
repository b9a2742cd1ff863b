"""WHM API 1 over HTTPS: one call at a time, and each way in which it can fail by its own name."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from pipeline.core.errors import ConfigError
from pipeline.core.loose import text, whole
from pipeline.kit.settings_cpanel import CpanelServer

MAX_ANSWER_BYTES: Final = 64 << 20
_MAX_REASON: Final = 200
_CONNECT_S: Final = 10.0
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class Trouble(StrEnum):
    """Why a server gave no usable answer; becomes the metric label ``reason``."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    UNAUTHORIZED = "unauthorized"
    STATUS = "status"
    NOT_JSON = "not_json"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    DISABLED = "disabled"
    FILTER_IGNORED = "filter_ignored"


SENTENCES: Final[Mapping[Trouble, str]] = {
    Trouble.TIMEOUT: "the WHM server did not answer in time",
    Trouble.UNREACHABLE: "the WHM server cannot be reached",
    Trouble.CERTIFICATE: "the certificate of the WHM server is not trusted: see ca_file",
    Trouble.UNAUTHORIZED: "the WHM server refused user or token: check both, and the token's rights",
    Trouble.STATUS: "the WHM server answered with an unexpected HTTP status",
    Trouble.NOT_JSON: "the WHM server answered with a page instead of JSON: check the port of url",
    Trouble.MALFORMED: "the answer of the WHM server has an unknown shape",
    Trouble.TOO_LARGE: "the answer of the WHM server is too large",
    Trouble.REFUSED: "the WHM server could not do what was asked",
    Trouble.DISABLED: "the function is switched off on the WHM server: enable its mail role",
    Trouble.FILTER_IGNORED: "the WHM server ignores filters by time, so its rows cannot be polled",
}
"""A log line for each."""

_OFF: Final = re.compile(r"\b(?:disabled|not enabled|role)\b", re.IGNORECASE)


class WhmError(Exception):
    """A call failed."""

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        """Take the kind, and what the server said: without token and addresses."""
        self.trouble = trouble
        self.detail = detail
        super().__init__(f"{SENTENCES[trouble]}: {detail}" if detail else SENTENCES[trouble])


class WhmClient:
    """The API of one server."""

    def __init__(self, server: CpanelServer, tls: ssl.SSLContext) -> None:
        """Talk to *server*; *tls* is of :func:`client_tls`."""
        self._token = server.token.get_secret_value()
        self._timeout_s = server.timeout / 1000
        self._http = httpx.AsyncClient(
            base_url=server.url,
            headers={
                "Authorization": f"whm {server.user}:{self._token}",
                "Accept": "application/json",
                "User-Agent": "mailstream",
            },
            verify=tls,
            timeout=httpx.Timeout(self._timeout_s, connect=min(_CONNECT_S, self._timeout_s)),
            trust_env=False,
            limits=httpx.Limits(max_connections=1),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def call(self, function: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        """Return the answer of *function*: an object whose ``metadata.result`` is 1.

        Raises:
            WhmError: There is no usable answer.
        """
        query = {"api.version": 1, **parameters}
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await self._get(f"/json-api/{function}", query)
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise WhmError(Trouble.TIMEOUT) from exc
        except httpx.HTTPError as exc:
            untrusted = "CERTIFICATE_VERIFY_FAILED" in str(exc)
            trouble = Trouble.CERTIFICATE if untrusted else Trouble.UNREACHABLE
            raise WhmError(trouble, type(exc).__name__) from exc
        return self._read(status, body)

    async def _get(self, path: str, query: Mapping[str, str | int]) -> tuple[int, bytes]:
        body = bytearray()
        async with self._http.stream("GET", path, params=query) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise WhmError(Trouble.TOO_LARGE)
            return response.status_code, bytes(body)

    def _read(self, status: int, body: bytes) -> dict[str, Any]:
        answer = _json(body)
        if status in (401, 403):
            raise WhmError(Trouble.UNAUTHORIZED, self._reason(answer, status))
        if status != httpx.codes.OK:
            raise WhmError(Trouble.STATUS, self._reason(answer, status))
        if answer is None:
            raise WhmError(Trouble.NOT_JSON)
        metadata = answer.get("metadata") if isinstance(answer, dict) else None
        if not isinstance(answer, dict) or not isinstance(metadata, dict):
            other_api = isinstance(answer, dict) and "cpanelresult" in answer
            trouble = Trouble.REFUSED if other_api else Trouble.MALFORMED
            raise WhmError(trouble, self._reason(answer, status))
        if whole(metadata.get("result")) != 1:
            reason = self._reason(answer, status)
            off = _OFF.search(reason) is not None
            raise WhmError(Trouble.DISABLED if off else Trouble.REFUSED, reason)
        return answer

    def _reason(self, answer: Any, status: int) -> str:
        """Return what the server says, cut; the status where it says nothing."""
        reason = ""
        if isinstance(answer, dict):
            for part, name in (("metadata", "reason"), ("cpanelresult", "error")):
                inner = answer.get(part)
                reason = reason or (text(inner.get(name)) if isinstance(inner, dict) else "")
        said = " ".join(reason.replace(self._token, "***").split())
        return said[:_MAX_REASON] or f"HTTP {status}"


def records_of(answer: Mapping[str, Any]) -> list[Any]:
    """Return ``data.records`` of an answer; none where the function found nothing.

    Raises:
        WhmError: There is something else in their place.
    """
    data = answer.get("data")
    records = data.get("records", []) if isinstance(data, dict) else data
    if records is None:
        return []
    if not isinstance(records, list):
        raise WhmError(Trouble.MALFORMED, "data.records is no list")
    return records


def client_tls(ca_file: Path | None, *, verify: bool) -> ssl.SSLContext:
    """Return how a server's certificate is checked.

    Raises:
        ConfigError: The file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError([f"cpanel.servers[].ca_file: {ca_file} cannot be used: {exc}"]) from exc
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _json(body: bytes) -> Any:
    """Return what *body* says; None if it is not JSON.

    Replies that WHM quotes may hold bytes that are not UTF-8, and halves of surrogate pairs.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        mended = _SURROGATE.sub(r"\\ufffd", body.decode("utf-8", "replace"))
    try:
        return orjson.loads(mended)
    except orjson.JSONDecodeError:
        return None
