"""Which folders a mail may land in: by special-use flags first (RFC 6154), by names after that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Listed = tuple[Sequence[bytes], bytes | None, str]
"""Flags, delimiter and name of a folder, as LIST tells them."""

_JUNK_NAMES: Final = {
    "junk",
    "spam",
    "junk e-mail",
    "junk email",
    "junk-e-mail",
    "bulk mail",
    "bulk",
    "spamverdacht",
    "unerwünscht",
    "courrier indésirable",
    "indésirables",
    "pourriel",
    "correo no deseado",
    "posta indesiderata",
    "ongewenste e-mail",
    "lixo eletrónico",
    "lixo eletrônico",
    "niechciane",
    "skräppost",
    "søppelpost",
    "roskaposti",
    "спам",
    "垃圾邮件",
    "迷惑メール",
}
_ALL_NAMES: Final = {
    "all mail",
    "alle nachrichten",
    "tous les messages",
    "todos",
    "todos los mensajes",
    "todos os e-mails",
    "tutti i messaggi",
    "alle berichten",
    "wszystkie",
    "вся почта",
    "所有邮件",
    "すべてのメール",
}
_TRASH_NAMES: Final = {"trash", "papierkorb", "bin", "corbeille", "papelera", "cestino", "lixeira"}
_GMAIL: Final = ("[gmail]/", "[google mail]/")


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look, in this order, and where what is deleted goes."""

    main: str
    junk: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    everything: str | None = None
    """A folder that shows all mail, also what other folders hold (Gmail's All Mail)."""
    trash: str | None = None

    def in_order(self) -> list[str]:
        """Return each folder once: where mail should be, where it is too often, all others."""
        last = () if self.everything is None else (self.everything,)
        return list(dict.fromkeys((self.main, *self.junk, *self.extra, *last)))


def places(listed: Iterable[Listed], main: str, extra: Sequence[str] = ()) -> Places:
    """Return the folders to look in, of those that a server lists."""
    real = [
        (frozenset(_name(flag) for flag in flags), delimiter, name)
        for flags, delimiter, name in listed
        if not {"noselect", "nonexistent"} & {_name(flag) for flag in flags}
    ]
    junk = _flagged(real, "junk", "spam") or _named(real, _JUNK_NAMES)
    everything = _flagged(real, "all", "allmail") or _gmail_named(real, _ALL_NAMES)
    trash = _flagged(real, "trash") or _named(real, _TRASH_NAMES)
    known = {_same(name) for name in (main, *junk, *everything)}
    configured = [name for name in extra if _same(name) not in known]
    # Where nothing tells, a configured folder with such a name is spam all the same.
    named_junk = [name for name in configured if _last_part(name, b"/") in _JUNK_NAMES]
    return Places(
        main=main,
        junk=(*junk, *named_junk),
        extra=tuple(name for name in configured if name not in named_junk),
        everything=everything[0] if everything else None,
        trash=trash[0] if trash else None,
    )


_Real = tuple[frozenset[str], bytes | None, str]


def _flagged(real: list[_Real], *wanted: str) -> list[str]:
    return [name for flags, _, name in real if flags.intersection(wanted)]


def _named(real: list[_Real], names: set[str]) -> list[str]:
    return [name for _, delimiter, name in real if _last_part(name, delimiter) in names]


def _gmail_named(real: list[_Real], names: set[str]) -> list[str]:
    """Return folders of Gmail with one of *names*; elsewhere "Todos" is a folder like others."""
    found = _named(real, names)
    return [name for name in found if name.lower().startswith(_GMAIL)]


def _last_part(name: str, delimiter: bytes | None) -> str:
    mark = delimiter.decode("latin-1") if delimiter else ""
    return (name.rpartition(mark)[2] if mark else name).casefold()


def _same(name: str) -> str:
    """Return *name* so that equal ones are one folder: INBOX has no case (RFC 3501)."""
    return name.upper() if name.upper() == "INBOX" else name


def _name(flag: bytes) -> str:
    return flag.decode("latin-1").removeprefix("\\").lower()
