"""How much room the disk of the data folder has, for ``/metrics``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_FREE: Final = "mailstream_data_free_bytes"
_SIZE: Final = "mailstream_data_size_bytes"


class DataDisk(Collector):
    """Asks at each scrape; a folder that is not there yet has no numbers."""

    def __init__(self, folder: Path) -> None:
        """Show the disk of *folder*."""
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield what is free for this process, and the size of the disk."""
        free = GaugeMetricFamily(
            _FREE,
            "Free space on the disk of data_dir, where spools and the local Kafka's log are.",
        )
        size = GaugeMetricFamily(_SIZE, "Size of the disk of data_dir.")
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError:
            pass  # not there yet, or gone: whoever needs it says so
        else:
            free.add_metric((), usage.free)
            size.add_metric((), usage.total)
        yield free
        yield size
