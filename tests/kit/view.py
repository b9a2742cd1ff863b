"""The view as a process, beside a stand's worker and ingest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pipeline.core.families import FAMILIES
from tests.kit.oracle import WINDOWS, Recount, Series
from tests.kit.processes import START_S, Service, mailstream, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand

KEY = "view-key"
SHOWN_S = 60.0
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

    def value(self, metric: str) -> float:
        """Return one of its own numbers, which has no labels."""
        answer = self.get("/metrics")
        return Page([answer[1] if answer is not None else ""]).total(metric)

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


def assert_described(view: View, folder: Path, *more: str) -> None:
    """Assert that every answer is as the description says, whatever it allows, or does not, is asked."""
    ran = subprocess.run(
        [
            Path(sys.executable).with_name("st"),
            *("run", f"{view.url}/openapi.json", "--no-color", "--max-examples", "60", *more),
            # It never ends; and what one parameter means for another, a schema cannot say.
            *("--exclude-path", "/api/v1/events", "--exclude-checks", "positive_data_acceptance"),
            # Without it the listener refuses to look at what has a body.
            *("-H", "Content-Type: application/json", "-H", f"X-API-Key: {KEY}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def differing(view: View, recount: Recount) -> list[str]:
    """Return every number of the view that the recount contradicts."""
    wrong = []
    for family in FAMILIES:
        export = next((one for one in family.exports if one.by_event_type), None)
        if export is None:
            continue
        for window, length in WINDOWS.items():
            answer = view.ask("top", dimension=family.name, window=window, n=1000)
            assert answer["complete"], answer
            shown = {
                Series(export.metric, (*row["key"].values(), event_type)): count
                for row in answer["top"]
                for event_type, count in row["events"].items()
            }
            at_ms = round(answer["at"] * 1000)
            expected = {
                series: count
                for (_, series), count in recount.at(at_ms, {window: length}).items()
                if series.metric == export.metric
            }
            if shown != expected:
                some = dict(list(shown.items() ^ expected.items())[:5])
                wrong.append(f"{family.name} {window}: {len(shown)} of {len(expected)}, {some}")
    return wrong


def wait_until_equal(view: View, recount: Recount) -> None:
    """Wait until the view contradicts the recount in no number.

    Raises:
        AssertionError: It does not in time; it names some that differ.
    """
    wrong = ["nothing was shown"]

    def equal() -> bool:
        wrong[:] = differing(view, recount)
        return not wrong

    try:
        wait_until(equal, "the view equals the recount", within_s=SHOWN_S, every_s=0.5)
    except TimeoutError as exc:
        raise AssertionError("\n".join([str(exc), *wrong, view.said()])) from exc
