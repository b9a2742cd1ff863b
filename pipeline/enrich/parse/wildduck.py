"""Logins: GELF about attempts to log in, from WildDuck's user handler and the MTA's plugin.

One login over SMTP makes two messages, WildDuck's own (``_auth_result``) and the plugin's
(``_auth_ok`` or ``_auth_fail``).  The plugin's count only where WildDuck writes none.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pipeline.core import gelf
from pipeline.core.errors import Reason, RecordError
from pipeline.core.posted import PostedEvent
from pipeline.enrich.parsing import Context, Skip

SCOPES: Final = frozenset({"imap", "pop3", "smtp", "master", "irc", "api"})
"""Scopes that WildDuck knows; a caller of its API may send any text."""
OTHER: Final = "other"


def parse(value: bytes, context: Context) -> PostedEvent | Skip:
    """Return the login that a message tells of.

    Raises:
        RecordError: It is not what WildDuck or its plugin sends.
    """
    message = gelf.decode(value)
    result = gelf.text(message, "_auth_result")
    if result is not None:
        succeeded = result == "success"
    elif gelf.is_login(message):
        if not ("_xclient" in message or "_require_asp" in message):
            return Skip.SHADOW  # WildDuck's own message tells the same
        succeeded = "_auth_ok" in message
    else:
        return Skip.NOISE
    scope = gelf.text(message, "_scope")
    fields: dict[str, Any] = {
        "timestamp": gelf.event_time(message, context.received_ms),
        "event_type": "auth_succeeded" if succeeded else "auth_failed",
        "mta_node": gelf.text(message, "host") or context.origin,
        "user": gelf.text(message, "_username"),
        "login": gelf.text(message, gelf.UNKNOWN_NAME),
        "client_ip": gelf.text(message, "_ip"),
        "auth_method": gelf.text(message, "_password_type"),
        "auth_scope": scope if scope is None or scope in SCOPES else OTHER,
        "error_code": None if succeeded else result,
        "error_message": None if succeeded else gelf.text(message, "_error"),
    }
    try:
        return msgspec.convert(fields, PostedEvent)
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.INVALID_FIELD, str(exc)) from exc
