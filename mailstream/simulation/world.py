"""Who sends in the simulator's world: customers, their accounts, our nodes, zones and addresses.

Everything is drawn from one seed.  Domains are reserved ones (RFC 2606) and addresses are
documentation ranges (RFC 5737, RFC 3849), except for the receiving providers' own domains.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Generic, TypeVar

T = TypeVar("T")

ZIPF_EXPONENT: Final = 1.1
"""How steep activity falls with rank, for domains and for accounts."""

NODES: Final = ("mta1", "mta2", "mta3")
INBOUND_NODES: Final = ("mx1", "mx2")
BULK_RANKS: Final = 0.02
"""The share of accounts, from the most active down, that send newsletters from zone ``bulk``."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMES: Final = _words(
    "anna ben clara david elena felix greta hugo ines jonas kira leo mia nils olga paul quinn "
    "rosa simon tara ulf vera willi xenia yann zoe"
)
_ROLES: Final = ("info", "office", "sales", "billing", "shop", "support", "news", "noreply")
_FIRST: Final = _words(
    "alpine amber atlas birch blue bright cedar clear coast copper crane delta east elm fern "
    "forest garden gold green harbor hazel high iris iron lake laurel linden maple marble meadow "
    "north oak olive open orchid pine quiet red ridge river rose sage silver south star stone "
    "sun tall valley west willow"
)
_SECOND: Final = _words(
    "bakery bikes books clinic coffee design dental farm florist foods furniture garage hotel "
    "lab legal logistics media music optics pharmacy press print school shoes software sports "
    "studio tailor tax tea tools travel wine works yoga"
)
_TAIL_DOMAINS: Final = 400
"""How many small receiving domains there are."""


class Choice(Generic[T]):
    """A weighted choice that costs one bisection."""

    def __init__(self, items: Sequence[T], weights: Sequence[float]) -> None:
        """Take as many *weights* as *items*; they need not add up to 1."""
        self.items = tuple(items)
        self._cumulative = list(accumulate(weights))

    def pick(self, rng: random.Random) -> T:
        """Draw one item."""
        at = bisect(self._cumulative, rng.random() * self._cumulative[-1])
        return self.items[min(at, len(self.items) - 1)]


def zipf(count: int) -> list[float]:
    """Return the weights of *count* ranks."""
    return [1.0 / rank**ZIPF_EXPONENT for rank in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class Account:
    """One customer's mailbox that submits mail."""

    local: str
    domain: str
    node: str
    zone: str
    client_ips: tuple[str, ...]
    tells_login: bool
    """Whether the node's plugin posts the authenticated user beside the sender's address."""

    @property
    def address(self) -> str:
        """Return the full mail address, which is also the login."""
        return f"{self.local}@{self.domain}"


@dataclass(frozen=True, slots=True)
class World:
    """The fixed part of a simulation."""

    accounts: Choice[Account]
    """By activity: Zipf over accounts, the most active first."""
    tail_domains: Choice[str]
    compromised: Account
    """The quiet account whose password gets stolen."""
    robots: tuple[str, ...]
    """Addresses that the thief submits from."""
    outside_ips: tuple[str, ...]
    """Addresses that inbound mail comes from."""


def sending_ips(node: str, zone: str) -> tuple[str, ...]:
    """Return our addresses that *node* sends mail of *zone* from."""
    base = 10 * (NODES.index(node) + 1)
    pools = {"default": (1, 2, 3), "bulk": (4, 5), "bounces": (9,)}
    return tuple(f"203.0.113.{base + place}" for place in pools[zone])


def world(seed: int, users: int) -> World:
    """Draw a world with *users* accounts.

    Raises:
        ValueError: Fewer than ten users: there is no one to be compromised among them.
    """
    if users < 10:
        raise ValueError(f"a world needs at least 10 users, not {users}")
    rng = random.Random(f"world {seed}")  # noqa: S311  a simulation must be repeatable
    domains = Choice(*_domains(rng, max(3, users // 12)))
    taken: set[str] = set()
    accounts = [_account(rng, rank, users, domains.pick(rng), taken) for rank in range(users)]
    return World(
        accounts=Choice(accounts, zipf(users)),
        tail_domains=Choice(*_domains(rng, _TAIL_DOMAINS)),
        compromised=accounts[users // 2],
        robots=tuple(f"2001:db8:{rng.getrandbits(16):x}::{n:x}" for n in range(1, 41)),
        outside_ips=tuple(f"198.51.100.{n}" for n in range(1, 255)),
    )


def _domains(rng: random.Random, count: int) -> tuple[list[str], list[float]]:
    names: dict[str, None] = {}
    while len(names) < count:
        name = f"{rng.choice(_FIRST)}-{rng.choice(_SECOND)}"
        if name in names:
            name += str(len(names))
        names[name] = None
    return [f"{name}.example" for name in names], zipf(count)


def _account(rng: random.Random, rank: int, users: int, domain: str, taken: set[str]) -> Account:
    bulk = rank < users * BULK_RANKS
    local = rng.choice(_ROLES if bulk or rng.random() < 0.2 else _NAMES)
    if f"{local}@{domain}" in taken:
        local += str(rank)
    taken.add(f"{local}@{domain}")
    return Account(
        local=local,
        domain=domain,
        node=rng.choice(NODES),
        zone="bulk" if bulk else "default",
        client_ips=tuple(
            f"192.0.2.{rng.randrange(1, 255)}" for _ in range(rng.choice((1, 1, 2, 3)))
        ),
        tells_login=rng.random() < 0.8,
    )
