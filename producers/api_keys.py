"""Who posts: API keys, and the source that the sender names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.kit.listen import same_secret
from pipeline.kit.settings import SOURCES, ApiKey
from producers.posting import Sender

KEY_HEADER: Final = "X-API-Key"
SOURCE_HEADER: Final = "X-Source"

DEFAULT_SOURCE: Final = "zonemta"
DEFAULT_ORIGIN: Final = "default"


class WrongKeyError(Exception):
    """The key is missing or unknown."""


class UnknownSourceError(Exception):
    """The header names a source that does not post here."""


class SourceNotAllowedError(Exception):
    """The key may not post for this source."""


class ApiKeys:
    """The keys of one ingest service; without any, everybody who reaches it may post."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        """Take the configured keys."""
        self._keys = tuple(keys)

    def sender(self, headers: Mapping[str, str], sources: Sequence[str] = SOURCES) -> Sender:
        """Return who sends a request with these *headers*, naming one of *sources*.

        Where there is but one source, the headers name none.

        Raises:
            WrongKeyError: No key fits.
            UnknownSourceError: There is no such source.
            SourceNotAllowedError: The key may not post for it.
        """
        key = self._key(headers)
        source = sources[0]
        if len(sources) > 1:
            source = headers.get(SOURCE_HEADER, DEFAULT_SOURCE).strip().lower()
        if source not in sources:
            raise UnknownSourceError
        if key is None:
            return Sender(source, DEFAULT_ORIGIN)
        if source not in key.sources:
            raise SourceNotAllowedError
        return Sender(source, key.name)

    def _key(self, headers: Mapping[str, str]) -> ApiKey | None:
        """Return the key of a request; None where none is needed."""
        if not self._keys:
            return None
        given = headers.get(KEY_HEADER, "")
        # All are always compared, so that the time tells nothing about which one came near.
        fitting = [key for key in self._keys if same_secret(given, key.key.get_secret_value())]
        if not fitting:
            raise WrongKeyError
        return fitting[0]
