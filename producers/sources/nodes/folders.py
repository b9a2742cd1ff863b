"""Files in folders of mail, such as the queue of a Haraka."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.core.errors import TransientError
from pipeline.kit.settings_nodes import QueueFolder
from producers.sources.nodes.samples import Family, Sample

SOURCE: Final = "folder"
MAX_FILES: Final = 1_000_000
"""More are not counted: a look must end."""

_FILES: Final = Family(
    "mail_system_folder_files",
    "Files in a folder and those below it; at most a million are counted.",
)


def count_files(folder: Path) -> int:
    """Return how many files are in *folder* and below; links are not followed.

    Raises:
        TransientError: The folder is not there, or may not be read.
    """
    count = 0
    try:
        os.scandir(folder).close()
        for _, _, names in os.walk(folder):
            count += len(names)
            if count >= MAX_FILES:
                return MAX_FILES
    except OSError as exc:
        raise TransientError(f"{exc.strerror}") from exc
    return count


class Folders:
    """Counts the files of all folders that are configured."""

    source = SOURCE

    def __init__(self, folders: Sequence[QueueFolder], node: str, interval_ms: int) -> None:
        """Count in *folders*, shown as *node*."""
        self.node = node
        self.interval_ms = interval_ms
        self._folders = folders

    async def poll(self, now_ms: int) -> list[Sample]:  # noqa: ARG002  what every target takes
        """Return the number of files by folder.

        Raises:
            TransientError: One of them cannot be read.
        """
        return [
            _FILES.sample(await asyncio.to_thread(count_files, one.path), folder=one.name)
            for one in self._folders
        ]

    async def close(self) -> None:
        """Close nothing: nothing is held open."""
