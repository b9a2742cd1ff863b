"""The view as a process, beside a stand's worker and ingest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.kit.processes import START_S, Service, mailstream, wait_until
from tests.kit.stand import Stand, stand

KEY = "view-key"
ANY_VIEW = {"listen": "127.0.0.1:0", "api_key": KEY}


class View(Service):
    """One ``mailstream view``."""

    def __init__(self, config: Path, data_dir: Path) -> None:
        super().__init__("view", mailstream("view", "--config", config), data_dir)

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://{self.address()}"

    def ask(self, path: str, **parameters: object) -> Any:
        """Return the answer to a question that has one."""
        answer = self.get(f"/api/v1/{path}?{urlencode(parameters, doseq=True)}")
        assert answer is not None, self.said()
        assert answer[0] == 200, answer
        return json.loads(answer[1])

    def start_and_listen(self) -> None:
        """Start it and wait until it answers; Kafka may be away."""
        self.start()
        self.wait_for("/openapi.json")

    def wait_until_complete(self, *, within_s: float = START_S) -> None:
        """Wait until its windows are complete."""
        wait_until(lambda: self.answers("/health"), f"complete:\n{self.said()}", within_s=within_s)


@contextmanager
def viewed(broker: str, folder: Path, **sections: Any) -> Iterator[tuple[Stand, View]]:
    """Yield a stand with a view that is complete; in the end its process is gone."""
    with stand(broker, folder, **{"view": ANY_VIEW, **sections}) as st:
        view = View(st.config, st.folder)
        try:
            view.start_and_listen()
            view.wait_until_complete()
            yield st, view
        finally:
            view.end()
