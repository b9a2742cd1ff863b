"""What settings of the node agent mean for each other: unsafe URLs, names that stand twice."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.kit.settings import Settings
from pipeline.kit.settings_nodes import is_local

Mistake = tuple[tuple[str, ...], str]
"""Dotted keys, the one to look at first, and a sentence."""


def node_mistakes(settings: Settings) -> Iterator[Mistake]:
    """Yield every conflict among the sections ``nodes`` and ``zonemta``."""
    yield from _zonemta(settings)
    yield from _names(settings)
    agent = settings.nodes
    if agent is None:
        return
    urls = {f"nodes.wildduck[{place}].url": one.url for place, one in enumerate(agent.wildduck)}
    if agent.post_to is not None:
        urls["nodes.post_to.url"] = agent.post_to.url
    for key, url in urls.items():
        if not is_local(url) and not url.startswith("https://"):
            yield (key,), "expected https, as it is not on this machine"
    for place, redis in enumerate(agent.redis):
        if redis.cafile is not None and not redis.tls:
            yield (f"nodes.redis[{place}].tls",), "expected true, as cafile is set"


def _zonemta(settings: Settings) -> Iterator[Mistake]:
    for place, node in enumerate(settings.zonemta.nodes if settings.zonemta else ()):
        key = f"zonemta.nodes[{place}]"
        if (node.username is None) != (node.password is None):
            yield (
                (f"{key}.username", f"{key}.password"),
                "expected username and password, or neither",
            )
        if is_local(node.url):
            continue
        if not node.url.startswith("https://"):
            yield (
                (f"{key}.url",),
                "expected https, as it is not on this machine: the API has no authentication",
            )
        elif node.cafile is None and node.password is None:
            yield (
                (f"{key}.cafile", f"{key}.password"),
                "expected cafile, or username and password, as the URL is not on this machine",
            )


def _names(settings: Settings) -> Iterator[Mistake]:
    agent = settings.nodes
    lists = (
        {"zonemta.nodes": [one.name for one in settings.zonemta.nodes]} if settings.zonemta else {}
    )
    if agent is not None:
        own = agent.name or ""
        lists |= {
            "nodes.processes": [one.name for one in agent.processes],
            "nodes.folders": [one.name for one in agent.folders],
            "nodes.mongodb": [one.name or own for one in agent.mongodb],
            "nodes.redis": [one.name or own for one in agent.redis],
            "nodes.wildduck": [one.name or own for one in agent.wildduck],
        }
    for key, names in lists.items():
        for place, name in enumerate(names):
            if name in names[:place]:
                yield (
                    (f"{key}[{place}].name",),
                    f"expected a name other than {key}[{names.index(name)}]'s",
                )
