"""The privacy rules of an installation, put together from its settings."""

from __future__ import annotations

from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import Settings
from producers.privacy import Privacy


def privacy_rules(settings: Settings, source: str) -> Privacy:
    """Return the privacy rules that every producer of *source* applies.

    Raises:
        ConfigError: The key of the hashes cannot be kept.
    """
    given = settings.privacy.of_source(source)
    return Privacy(
        privacy_key(settings),
        keep_recipients=bool(given.keep_recipients),
        pseudonymise=given.pseudonymise or (),
    )
