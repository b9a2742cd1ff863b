"""The key of the privacy hashes: configured, or made once in the data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.settings import Settings

FILE_NAME: Final = "privacy.key"
_BYTES: Final = 32


def privacy_key(settings: Settings) -> bytes:
    """Return the key of the hashes.

    Without ``privacy.hash_key`` a random key is made once in ``<data_dir>/privacy.key``, readable
    by its owner only.  Of processes that start together one makes it and all read the same.

    Raises:
        ConfigError: The file is there but holds no key; a new one would split every history.
        MailstreamError: The file can be neither read nor made.
    """
    if settings.privacy.hash_key is not None:
        return settings.privacy.hash_key.get_secret_value().encode("utf-8", "surrogatepass")
    path = settings.data_dir / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        text = path.read_bytes()
    except OSError as exc:
        raise MailstreamError(f"{path}: the key cannot be read or made: {exc.strerror}") from exc
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        expected = f"expected {2 * _BYTES} hexadecimal digits"
        way_out = "put the key back, or remove the file and give up comparing old hashes"
        raise ConfigError([f"{path}: {expected}; {way_out}"])
    return key


def _make(path: Path) -> None:
    """Write a whole file under another name, then give it its name unless another was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE_NAME}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink(missing_ok=True)
