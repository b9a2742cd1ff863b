"""Which mail is of probes: mail from or to one of their accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.core.posted import PostedEvent
from pipeline.enrich.addresses import mail_address
from pipeline.enrich.sender import Sender


class ProbeAccounts:
    """The addresses of the accounts that probes use, as they are and as producers hash them."""

    def __init__(
        self, addresses: Iterable[str] = (), pseudonym: Callable[[str], str] | None = None
    ) -> None:
        """Know *addresses*, and what *pseudonym* makes of them."""
        names = {mail_address(text) or "" for text in addresses}
        if pseudonym is not None:
            names |= {form for name in names for form in _hashed(name, pseudonym)}
        self._names = frozenset(name.casefold() for name in names)
        self._domains = frozenset(name.rpartition("@")[2] for name in self._names)

    def __bool__(self) -> bool:
        """Tell whether any account is known."""
        return bool(self._names)

    def sent(self, sender: Sender) -> bool:
        """Tell whether *sender* is a probe."""
        return self._is_one(sender.from_address) or self._is_one(sender.user)

    def receive(self, event: PostedEvent) -> bool:
        """Tell whether a normalised *event* is about mail to a probe."""
        if event.to_domain in self._domains and event.to_hash is not None:
            return self._is_one(f"{event.to_hash}@{event.to_domain}")
        return self._is_one(event.to_user)

    def _is_one(self, address: str | None) -> bool:
        return address is not None and address.casefold() in self._names


def _hashed(address: str, pseudonym: Callable[[str], str]) -> Iterator[str]:
    """Yield what stands for *address* where it is hashed whole, and where its local part is."""
    local, _, domain = address.rpartition("@")
    yield pseudonym(address)
    yield f"{pseudonym(local)}@{domain}"


NO_PROBES = ProbeAccounts()
