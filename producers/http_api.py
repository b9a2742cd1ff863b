"""GET requests to an API on loopback or behind a proxy, within bounds of size and time."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import httpx
import msgspec

from pipeline.core.errors import ConfigError, TransientError

MAX_BYTES: Final = 16 << 20
TIMEOUT_S: Final = 8.0

_T = TypeVar("_T")


class StatusError(TransientError):
    """An answer other than 200."""

    def __init__(self, path: str, status: int) -> None:
        """Take the path asked for and the status of the answer."""
        self.status = status
        super().__init__(f"{path} is answered with status {status}")


class HttpApi:
    """One API; only GET is ever sent."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        cafile: Path | None = None,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        """Ask at *url*; an answer may be of *most_bytes*.

        Raises:
            ConfigError: *cafile* cannot be used.
        """
        self._most_bytes = most_bytes
        self._client = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            auth=login,
            verify=client_tls(url, cafile),
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
        )

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """Return the body of an answer.

        Raises:
            StatusError: The status is not 200.
            TransientError: Nobody answers, or the answer is too large.
        """
        try:
            async with self._client.stream("GET", path, params=params) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise StatusError(path, answer.status_code)
                parts, size = [], 0
                async for part in answer.aiter_bytes():
                    size += len(part)
                    if size > self._most_bytes:
                        raise TransientError(f"the answer to {path} is too large")
                    parts.append(part)
                return b"".join(parts)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise TransientError(f"{path}: {type(exc).__name__}: {exc}") from exc

    async def get_if_there(self, path: str) -> bytes | None:
        """Return the body of an answer, or None where the API has no such path (404).

        Raises:
            TransientError: As :meth:`get`.
        """
        try:
            return await self.get(path)
        except StatusError as exc:
            if exc.status == httpx.codes.NOT_FOUND:
                return None
            raise

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def client_tls(url: str, cafile: Path | None) -> ssl.SSLContext | bool:
    """Return what to trust at *url*; no context is made for plain HTTP, which needs none.

    Raises:
        ConfigError: *cafile* cannot be used.
    """
    if not url.startswith("https://"):
        return False
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError([f"cafile: {cafile} cannot be used: {exc}"]) from exc


def decoded(body: bytes, shape: type[_T], path: str) -> _T:
    """Return JSON of a known shape; fields that nobody needs are skipped.

    Raises:
        TransientError: It has another shape.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise TransientError(f"the answer to {path} has another shape than is known") from exc
