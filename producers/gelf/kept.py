"""What is kept of GELF messages: the fields on the lists, names of accounts only where they are known.

Subjects, display names, stack traces and the rest of ``short_message`` (names and addresses stand
in it) are on no list.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from pipeline.core import gelf
from producers.allow_list import AllowList, Rule, cut
from producers.gelf.subjects import About
from producers.known_names import KnownNames
from producers.privacy import Privacy

NameOf: TypeAlias = Callable[[str], str | None]
"""Returns the name of an account by its id, if it is known now."""


def no_names(_account_id: str) -> None:
    """Know no account by its id."""


def _keep(names: str) -> AllowList:
    return dict.fromkeys(names.split(), Rule.KEEP)


_OWN: Final = _keep("version host timestamp level facility line file")
"""GELF's own fields but the texts."""
_COMMON: Final[AllowList] = {
    **_OWN,
    **_keep("_component _mail_action _interface _proto"),
    "_ip": Rule.CLIENT,
    "_error": Rule.REPLY,
}
_MAIL: Final[AllowList] = {
    **_COMMON,
    **_keep("_queue_id _queue_id_seq _message_id _spam_score"),
    "_from": Rule.SENDER,
    "_to": Rule.RECIPIENTS,
    "_header_from": Rule.SENDER,
    "_response": Rule.REPLY,
}
_LISTS: Final[dict[About, AllowList]] = {
    About.MTA: {
        **_MAIL,
        **_keep(
            "_zone _mx _mx_host _local_ip _body_size _bounce_category _bounce_count "
            "_delivery_protocol _secure _tls _tls_authorized _tls_version _tls_cipher _spam_tests "
            "_allowed _rate_limit _daily _limit_sent _limit_allowed"
        ),
        "_authenticated_sender": Rule.SENDER,
        "_username": Rule.SENDER,
        "_user": Rule.SENDER,
        "_http_response": Rule.REPLY,
        "_description": Rule.REPLY,
    },
    About.MX: {
        **_MAIL,
        **_keep(
            "_rejector _reject_code _stored _no_store _dropped _failure _err_code "
            "_stored_size _target_queue_id _parent_queue_id"
        ),
        "_forwarded": Rule.REPLY,
        "_autoreply": Rule.REPLY,
        "_username": Rule.RECIPIENT,
        "_user": Rule.RECIPIENT,
    },
    About.LOGIN: {
        **_COMMON,
        **_keep(
            "_auth_result _auth_ok _auth_fail _password_type _password_id _scope _sess "
            "_session_id _code _pwned _xclient _require_asp"
        ),
        "_username": Rule.SENDER,
        "_user": Rule.SENDER,
    },
    About.UNKNOWN: {**_OWN, "_component": Rule.KEEP, "short_message": Rule.REPLY},
}


_LOGIN_WORDS: Final = frozenset({"AUTHOK", "AUTHFAIL", "AUTH OK", "AUTH FAIL"})


class Keeper:
    """Cuts messages down to what may be stored."""

    def __init__(self, privacy: Privacy, names: KnownNames, name_of: NameOf = no_names) -> None:
        """Apply *privacy*; ask *name_of* for names that a message gives as an id."""
        self._privacy = privacy
        self._names = names
        self._name_of = name_of

    def keep(
        self, message: dict[str, Any], about: About, word: str, received_ms: int
    ) -> dict[str, Any]:
        """Return what is stored of *message*, which may be changed."""
        account_id = message.get("_user")
        has_id = isinstance(account_id, str) and gelf.is_account_id(account_id)
        if has_id and "_username" not in message and about is not About.UNKNOWN:
            name = self._name_of(str(account_id))
            if name is not None:
                message["_username"] = name
        kept = cut(message, _LISTS[about], self._privacy).record
        if has_id and "_user" in kept:
            kept["_user"] = account_id  # it names nobody outside WildDuck
        if about is About.UNKNOWN:
            return kept
        kept["short_message"] = f"[{word}]"
        if about is About.LOGIN:
            if word not in _LOGIN_WORDS:
                kept["short_message"] = ""  # it may be a name
            self._hide_unknown(message, kept, received_ms)
        return kept

    def _hide_unknown(
        self, message: dict[str, Any], kept: dict[str, Any], received_ms: int
    ) -> None:
        """Hash the name of a login unless it is known to be an account's."""
        name = message.get("_username")
        if not isinstance(name, str) or not name:
            kept.pop("_username", None)
            return
        if message.get("_auth_result") == "success" or "_auth_ok" in message:
            self._names.succeeded(name, received_ms)
        elif message.get("_auth_result") == "unknown" or not (
            message.get("_user") or self._names.has(name, received_ms)
        ):
            del kept["_username"]
            kept[gelf.UNKNOWN_NAME] = self._privacy.hash(name)
