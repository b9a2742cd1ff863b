"""Another program's ``/metrics``, shown again under names of ours and with honest types.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.core.errors import TransientError
from producers.sources.nodes.samples import COUNTER, GAUGE, Family, Sample, label

MAX_SAMPLES: Final = 2_000
"""Most numbers that are taken from one page."""

_RUNTIME: Final = ("process_", "nodejs_")
_OURS: Final = frozenset({"node", "cluster"})
_TOTAL: Final = "_total"


def shown_again(page: str, program: str, renamed: Mapping[str, str]) -> list[Sample]:
    """Return the numbers of *page* as ``mail_<program>_*``.

    Taken are the program's own metrics (``<program>_*``) and those of its runtime (``process_*``,
    ``nodejs_*``).  A counter gets ``_total``; what is none loses it, and gets ``_current`` where
    only that tells it from a counter.

    Args:
        page: Prometheus text.
        program: ``zonemta`` or ``wildduck``.
        renamed: Names, without ``mail_<program>_``, of metrics that are called otherwise here.

    Raises:
        TransientError: It is no such page.
    """
    own = f"{program}_"
    found: list[Sample] = []
    try:
        metrics = list(text_string_to_metric_families(page))
        counters = {metric.name for metric in metrics if metric.type == COUNTER}
        for metric in metrics:
            if metric.name.startswith((own, *_RUNTIME)):
                name = renamed.get(metric.name, metric.name.removeprefix(own))
                if metric.type != COUNTER and metric.name in counters:
                    name += "_current"
                found += _samples(metric, f"mail_{own}{name}")
            if len(found) > MAX_SAMPLES:
                break
    except (ValueError, KeyError, IndexError) as exc:  # all that the parser raises on bad text
        raise TransientError("its /metrics is not a page of metrics") from exc
    return found[:MAX_SAMPLES]


def _samples(metric: Metric, name: str) -> list[Sample]:
    kind = metric.type
    if kind != COUNTER:
        name = name.removesuffix(_TOTAL)
    text = label(metric.documentation) or "Not explained by the program that shows it."
    family = Family(name, text, kind)
    found = []
    for sample in metric.samples:
        suffix = sample.name.removeprefix(metric.name)
        if kind == COUNTER:
            suffix = _TOTAL
        elif kind in (GAUGE, "unknown"):
            suffix = ""
        labels = tuple(
            (key, label(value)) for key, value in sample.labels.items() if key not in _OURS
        )
        found.append(Sample(family, float(sample.value), labels, suffix))
    return found
