"""The families of the well-known WHM exporter: ``email_user_stats``, ``email_flag_stats``, ``email_logs``.

They keep its names and labels, so that its dashboards go on working; ``server`` is added in front,
because account names repeat on every server.  After a failed poll a server's figures are gone:
old ones would look like new ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.core.loose import text, whole
from pipeline.kit.clock import Clock
from pipeline.kit.settings_cpanel import CpanelSettings
from producers.sources.cpanel.stats import UserStats

SERVER: Final = "server"
_ACCOUNT: Final = ("domain", "user", "primary_domain", "owner")
_FLAGGED: Final = ("domain", "user")

LOG_LABELS: Final = {
    "time": "actiontime",
    "actionunixtime": "actionunixtime",
    "delivered_to": "deliveredto",
    "delivery_domain": "deliverydomain",
    "delivery_user": "deliveryuser",
    "domain": "domain",
    "host": "host",
    "ip": "ip",
    "message": "message",
    "msg_id": "msgid",
    "recipient": "recipient",
    "router": "router",
    "sender": "sender",
    "sender_auth": "senderauth",
    "sender_host": "senderhost",
    "sender_ip": "senderip",
    "sendunixtime": "sendunixtime",
    "size": "size",
    "transport": "transport",
    "transport_is_remote": "transport_is_remote",
    "type": "type",
    "user": "user",
}
"""Labels of ``email_logs``, and WHM's fields that they are taken from."""

_MAX_LABEL: Final = 1024


class _Shown(NamedTuple):
    """One row in ``email_logs``."""

    action_s: int
    labels: tuple[str, ...]


class Exporter(Collector):
    """Shows what the pollers last learnt."""

    def __init__(self, settings: CpanelSettings, clock: Clock) -> None:
        """Show as *settings* say."""
        self._settings = settings
        self._clock = clock
        self._lead = () if settings.compat_single else (SERVER,)
        self._stats: dict[str, UserStats] = {}
        self._logs: deque[_Shown] = deque(maxlen=settings.logs_max_series)

    def show(self, server: str, stats: UserStats) -> None:
        """Show the figures of a poll in the place of those before."""
        self._stats[server] = stats

    def drop(self, server: str) -> None:
        """Show nothing of a server whose poll failed."""
        self._stats.pop(server, None)

    def log(self, server: str, stored: Sequence[Mapping[str, Any]]) -> None:
        """Show rows, as they are stored, in ``email_logs``, if that is enabled."""
        if not self._settings.logs:
            return
        for row in stored:
            values = tuple(text(row.get(name))[:_MAX_LABEL] for name in LOG_LABELS.values())
            at_s = whole(row.get("actionunixtime")) or 0
            self._logs.append(_Shown(at_s, (*self._of(server), *values)))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families of one scrape."""
        yield self._user_stats()
        yield self._flag_stats()
        yield self._window_start()
        if self._settings.logs:
            yield self._email_logs()

    def _of(self, server: str) -> tuple[str, ...]:
        return (server,) if self._lead else ()

    def _family(self, name: str, words: str, labels: Sequence[str]) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, words, labels=[*self._lead, *labels])

    def _user_stats(self) -> GaugeMetricFamily:
        family = self._family(
            "email_user_stats",
            "Mail of an account and domain since midnight, as WHM counts it.",
            [*_ACCOUNT, "stat_type"],
        )
        for server, stats in self._stats.items():
            for account, counts in stats.counts.items():
                for stat_type, value in counts.items():
                    family.add_metric([*self._of(server), *account, stat_type], value)
        return family

    def _flag_stats(self) -> GaugeMetricFamily:
        family = self._family(
            "email_flag_stats",
            "1 if an account and domain reached a limit of WHM.",
            [*_FLAGGED, "flag"],
        )
        for server, stats in self._stats.items():
            reached: dict[tuple[str, ...], bool] = {}
            for account, flags in stats.flags.items():
                for flag, value in flags.items():
                    labels = (*self._of(server), account.domain, account.user, flag)
                    reached[labels] = reached.get(labels, False) or value
            for labels, value in reached.items():
                family.add_metric(labels, float(value))
        return family

    def _window_start(self) -> GaugeMetricFamily:
        family = self._family(
            "email_user_stats_window_start_timestamp_seconds",
            "Since when email_user_stats counts: midnight in the server's time zone.",
            [],
        )
        for server, stats in self._stats.items():
            family.add_metric(self._of(server), stats.window_start_s)
        return family

    def _email_logs(self) -> GaugeMetricFamily:
        family = self._family(
            "email_logs",
            "1 for each of the newest rows of emailtrack_search, recipients hashed.",
            list(LOG_LABELS),
        )
        oldest_s = (self._clock.now_ms() - self._settings.logs_max_age) // 1000
        for labels in dict.fromkeys(row.labels for row in self._logs if row.action_s >= oldest_s):
            family.add_metric(labels, 1)
        return family
