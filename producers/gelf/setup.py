"""What makes records of GELF messages, put together from the settings."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from pipeline.kit.clock import Clock
from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import Settings
from producers.gelf.kept import Keeper, no_names
from producers.gelf.known_names import KnownNames
from producers.gelf.records import RecordMaker
from producers.privacy import Privacy
from producers.wildduck_names import UserNames


def user_names(settings: Settings, registry: CollectorRegistry, clock: Clock) -> UserNames | None:
    """Return what knows accounts by name, or None where there is no API to ask."""
    users = settings.wildduck.users
    return None if users.url is None else UserNames(users, registry, clock)


def record_maker(settings: Settings, names: UserNames | None) -> RecordMaker:
    """Return what makes records.

    Raises:
        ConfigError: The key of the privacy hashes cannot be kept.
    """
    gelf, privacy = settings.gelf, settings.privacy
    rules = Privacy(
        privacy_key(settings),
        keep_recipients=privacy.keep_recipients,
        pseudonymise=privacy.pseudonymise,
    )
    keeper = Keeper(rules, KnownNames(), no_names if names is None else names.name_of)
    return RecordMaker(
        keeper,
        max_bytes=gelf.max_message_bytes,
        strict=gelf.strict,
        keep_unknown=gelf.keep_unknown,
    )
