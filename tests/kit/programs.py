"""Programs that tests call, as ``make test`` provides them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_TOOLS: Final = Path(__file__).parents[2] / ".tools" / "usr" / "bin"


def promtool() -> str:
    """Return where promtool is: the system's, else what ``make`` unpacked.

    Raises:
        FileNotFoundError: There is none.
    """
    found = shutil.which("promtool") or shutil.which("promtool", path=str(_TOOLS))
    if found is None:
        raise FileNotFoundError("promtool is not here: `make test` fetches it")
    return found


def redis_server() -> str:
    """Return where redis-server is: the system's, else what ``make`` unpacked.

    Raises:
        FileNotFoundError: There is none.
    """
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(_TOOLS))
    if found is None:
        raise FileNotFoundError("redis-server is not here: `make test` fetches it")
    return found
