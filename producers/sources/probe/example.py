"""Where the probe's file is, and the example that is written where there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pipeline.core.errors import ConfigError
from producers.sources.probe.config_keys import truth

log = logging.getLogger(__name__)

PATH_VARIABLE: Final = "CONFIG_PATH"
WRITE_VARIABLE: Final = "WRITE_EXAMPLE_CONFIG"
HERE: Final = Path("config.yaml")
IN_IMAGE: Final = Path("/app/config.yaml")

EXAMPLE: Final = """\
# Roundtrip probes.  Passwords come from the environment, or from a .env beside this file.
exporter:
  listen_addr: 127.0.0.1
  listen_port: 9782
  check_interval_seconds: 300
  receive_poll_seconds: 5
  receive_timeout_seconds: 120
  smtp_timeout_seconds: 60
  delete_testmail_after_verify: true
  subject_prefix: "[MAIL-E2E]"
  metrics_prefix: "mail_"
accounts:
  own:
    smtp: {host: mail.example.com, port: 587, starttls: true, username: probe@example.com, password: "${OWN_PASS}"}
    imap: {host: mail.example.com, port: 993, ssl: true, username: probe@example.com, password: "${OWN_PASS}", folder: INBOX}
  other:
    smtp: {host: smtp.example.net, port: 465, starttls: false, username: probe@example.net, password: "${OTHER_PASS}"}
    imap: {host: imap.example.net, port: 993, ssl: true, username: probe@example.net, password: "${OTHER_PASS}", folder: INBOX}
tests:
  - {name: own-to-other, from: own, to: other}
  - {name: other-to-own, from: other, to: own}
"""


def config_path(configured: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the file: *configured*, ``$CONFIG_PATH``, ``./config.yaml``, ``/app/config.yaml``."""
    if configured is not None:
        return configured
    named = environ.get(PATH_VARIABLE)
    if named:
        return Path(named).absolute()
    return HERE.absolute() if HERE.exists() or not IN_IMAGE.exists() else IN_IMAGE


def write_example(path: Path, environ: Mapping[str, str]) -> bool:
    """Write the example to *path* if it is asked for and nothing is there; tell whether it was.

    Raises:
        ConfigError: It cannot be written, or the variable is no truth value.
    """
    try:
        wanted = truth(environ.get(WRITE_VARIABLE) or "false")
    except ValueError as exc:
        raise ConfigError([f"{WRITE_VARIABLE}: expected {exc}"]) from exc
    if not wanted:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        return False
    except OSError as exc:
        raise ConfigError([f"{path}: the example cannot be written: {exc.strerror}"]) from exc
    log.info("an example was written; put your servers in", extra={"path": str(path)})
    return True
