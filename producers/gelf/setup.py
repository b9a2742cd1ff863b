"""What makes records of GELF messages, put together from the settings."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from pipeline.core.gelf import SOURCE
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings
from producers.appender import Appender
from producers.gelf.kept import Keeper, no_names
from producers.gelf.records import RecordMaker
from producers.gelf.samples import Samples
from producers.known_names import KnownNames
from producers.privacy import Privacy
from producers.wildduck_names import UserNames


def user_names(settings: Settings, registry: CollectorRegistry, clock: Clock) -> UserNames | None:
    """Return what knows accounts by name, or None where there is no API to ask."""
    users = settings.wildduck.users
    return None if users.url is None else UserNames(users, registry, clock)


def samples_of(
    settings: Settings,
    privacy: Privacy,
    appender: Appender,
    registry: CollectorRegistry,
    clock: Clock,
) -> Samples:
    """Return what keeps samples of bad messages: none where names are not to be seen."""
    per_minute = (
        0 if settings.privacy.of_source(SOURCE).pseudonymise else settings.gelf.samples_per_minute
    )
    return Samples(privacy, appender, settings.topics, registry, clock, per_minute=per_minute)


def keeper_of(privacy: Privacy, names: UserNames | None) -> Keeper:
    """Return what cuts messages down, for all inputs of a process: it learns names."""
    return Keeper(privacy, KnownNames(), no_names if names is None else names.name_of)


def record_maker(
    settings: Settings, keeper: Keeper, samples: Samples, host: str | None = None
) -> RecordMaker:
    """Return what makes records of the messages of an input, all of *host* if that is given."""
    gelf = settings.gelf
    return RecordMaker(
        keeper,
        max_bytes=gelf.max_message_bytes,
        strict=gelf.strict,
        keep_unknown=gelf.keep_unknown,
        host=host,
        bad=samples.take,
    )
