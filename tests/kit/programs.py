"""Programs that tests call, as ``make test`` provides them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_TOOLS: Final = Path(__file__).parents[2] / ".tools" / "usr" / "bin"


def program(name: str) -> str:
    """Return where the program *name* is: the system's, else what ``make`` unpacked.

    Raises:
        FileNotFoundError: There is none.
    """
    found = shutil.which(name) or shutil.which(name, path=str(_TOOLS))
    if found is None:
        raise FileNotFoundError(f"{name} is not here: `make test` fetches it")
    return found
