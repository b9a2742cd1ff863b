"""References to environment variables in texts of a configuration: ``${NAME}`` and ``${NAME:-default}``.

``$${`` stands for a plain ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_REFERENCE: Final = re.compile(
    r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?", re.ASCII
)


def expand(text: str, environ: Mapping[str, str], mistake: Callable[[str], None]) -> str:
    """Return *text* with every reference replaced; what cannot be is reported and left out.

    Args:
        text: Any text.
        environ: The variables.
        mistake: Told one sentence for each reference that is unset or malformed.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            mistake("expected ${NAME} or ${NAME:-default}; $${ stands for a plain ${")
            return ""
        if default is not None:
            return environ.get(name) or default
        if name not in environ:
            mistake(f"expected the environment variable {name} to be set, or ${{{name}:-default}}")
        return environ.get(name, "")

    return _REFERENCE.sub(value, text)


def variables(text: str) -> tuple[str, ...]:
    """Return the names of the variables that *text* refers to."""
    return tuple(match[1] for match in _REFERENCE.finditer(text) if match[1] is not None)
