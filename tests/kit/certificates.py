"""Certificates of test servers: good, expired, of an authority that nobody trusts, of a client."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DAYS: Final = 30
NAMES: Final = "subjectAltName=DNS:localhost,DNS:mail.example.test,IP:127.0.0.1"
_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority of the tests."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.own = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *_KEY, "-days", str(DAYS), "-subj", f"/CN={name}"),
            *("-keyout", self.own.key, "-out", self.own.cert),
        )

    @property
    def cert(self) -> Path:
        """Return what a client must trust."""
        return self.own.cert

    def issue(self, name: str, *, days: int = DAYS) -> Pair:
        """Return a certificate for this machine; -1 days make one that expired yesterday."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request = self._folder / f"{name}.csr"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(NAMES + "\n")
        _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.own.cert, "-CAkey", self.own.key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", pair.cert),
        )
        pair.key.chmod(0o644)
        return pair


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
