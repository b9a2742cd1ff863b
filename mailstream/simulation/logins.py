"""Logins of the simulated accounts, as WildDuck tells of them in GELF: pure, seeded, endless if asked.

Most succeed, some passwords are mistyped, some names are nobody's.  After a while a few addresses
guess passwords of a few accounts; WildDuck slows each pair down (``ratelimited``), and at last one
guess is right: from then on that account logs in from many places.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from mailstream.simulation.arrivals import arrivals
from mailstream.simulation.traffic import USERS
from mailstream.simulation.world import Account, Choice, World, world

ATTACKERS: Final = 4
ATTACKED: Final = 8
"""Accounts whose passwords are guessed; one of them is the compromised one."""
GUESSES: Final = 20
"""Guesses that WildDuck checks per address and account, before it answers ``ratelimited``."""
ATTACK_SHARE: Final = 0.5
"""Logins of the attack, as a share of all others."""
ROBOT_SHARE: Final = 0.1
"""Logins of the robots with the password that was found, as a share of all others."""
MISTYPED: Final = 0.02
NOBODY: Final = 0.005

_HOSTS: Final = ("imap1", "imap2")
_SCOPES: Final = Choice(("imap", "smtp", "pop3", "api"), (0.72, 0.2, 0.05, 0.03))
_ERRORS: Final = {
    "fail": "Invalid Auth",
    "unknown": "Unknown user",
    "ratelimited": "Rate limited",
}


class SimulatedLogin(NamedTuple):
    """One message to be sent."""

    at_ms: int
    """When it happens, and when to send it."""
    message: dict[str, Any]
    """The GELF message."""


@dataclass(frozen=True, slots=True)
class LoginPlan:
    """What to simulate; times are ms since the epoch."""

    seed: int
    start_ms: int
    rate: float = 10.0
    """Logins per second, mean over a day, without the attack."""
    duration_ms: int = 0
    """0: without end."""
    users: int = USERS
    attack_after_ms: int | None = None
    """When the guessing begins, after the start; None: never."""
    found_after_ms: int | None = None
    """When a guess is right, after the start; None: never."""


def logins(plan: LoginPlan) -> Iterator[SimulatedLogin]:
    """Return the logins of *plan*, ordered by ``at_ms``; the same plan gives the same logins.

    Raises:
        ValueError: The rate is not positive, or the world is too small.
    """
    if plan.rate <= 0:
        raise ValueError(f"the rate must be positive, not {plan.rate}")
    return _Logins(plan, world(plan.seed, plan.users)).run()


class _Logins:
    def __init__(self, plan: LoginPlan, fixed: World) -> None:
        self._plan = plan
        self._world = fixed
        self._rng = random.Random(f"logins {plan.seed}")  # noqa: S311  a simulation must be repeatable
        self._attackers = self._rng.sample(fixed.outside_ips, ATTACKERS)
        others = self._rng.sample(fixed.accounts.items, ATTACKED)
        self._attacked = [one for one in others if one is not fixed.compromised][: ATTACKED - 1]
        self._attacked.append(fixed.compromised)
        self._guesses: Counter[tuple[str, str]] = Counter()

    def run(self) -> Iterator[SimulatedLogin]:
        plan, rng = self._plan, self._rng
        end_ms = plan.start_ms + plan.duration_ms if plan.duration_ms else math.inf
        was_found = False
        for now_ms in arrivals(rng, plan.start_ms, end_ms, plan.rate):
            yield self._usual(now_ms)
            if self._is_past(plan.attack_after_ms, now_ms) and rng.random() < ATTACK_SHARE:
                yield self._guess(now_ms)
            if self._is_past(plan.found_after_ms, now_ms):
                if not was_found:
                    yield self._robot(now_ms, rng.choice(self._attackers))
                    was_found = True
                elif rng.random() < ROBOT_SHARE:
                    yield self._robot(now_ms, rng.choice(self._world.robots))

    def _is_past(self, after_ms: int | None, now_ms: int) -> bool:
        return after_ms is not None and now_ms >= self._plan.start_ms + after_ms

    def _usual(self, now_ms: int) -> SimulatedLogin:
        rng = self._rng
        account = self._world.accounts.pick(rng)
        ip, scope = rng.choice(account.client_ips), _SCOPES.pick(rng)
        draw = rng.random()
        if draw < NOBODY:
            return self._login(now_ms, f"old-{account.address}", ip, scope, "unknown")
        result = "fail" if draw < NOBODY + MISTYPED else "success"
        return self._login(now_ms, account.address, ip, scope, result, account)

    def _guess(self, now_ms: int) -> SimulatedLogin:
        rng = self._rng
        account, ip = rng.choice(self._attacked), rng.choice(self._attackers)
        self._guesses[ip, account.address] += 1
        is_slowed = self._guesses[ip, account.address] > GUESSES
        result = "ratelimited" if is_slowed else "fail"
        return self._login(now_ms, account.address, ip, "smtp", result, account)

    def _robot(self, now_ms: int, ip: str) -> SimulatedLogin:
        account = self._world.compromised
        return self._login(now_ms, account.address, ip, "smtp", "success", account)

    def _login(
        self,
        now_ms: int,
        name: str,
        ip: str,
        scope: str,
        result: str,
        account: Account | None = None,
    ) -> SimulatedLogin:
        """Return the message of one login; fields that have no value are left out, as by WildDuck."""
        word = "AUTHOK" if result == "success" else "AUTHFAIL"
        message: dict[str, Any] = {
            "short_message": f"WILDDUCK [{word}] {name}",
            "_auth_result": result,
            "_username": name,
            "_domain": name.rpartition("@")[2],
            "_scope": scope,
            "_ip": ip,
            "_sess": f"{self._rng.getrandbits(64):016x}",
            "facility": "wildduck",
            "host": self._rng.choice(_HOSTS),
            "timestamp": now_ms / 1000,
            "_component": "wildduck",
            "version": "1.0",
        }
        if account is not None:
            message["_user"] = _account_id(account.address)
        if result in {"success", "fail"}:
            message["_password_type"] = "master"  # noqa: S105  the kind of password, not one
        if result == "success":
            message["_mail_action"] = "auth"
        else:
            message["_error"] = _ERRORS[result]
        return SimulatedLogin(now_ms, message)


def _account_id(address: str) -> str:
    """Return the id of an account: 24 hex digits, as MongoDB's are."""
    return blake2b(address.encode(), digest_size=12).hexdigest()
