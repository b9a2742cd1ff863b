"""``classify``: tell the class of a bounce, and which rule says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from mailstream.commands.common import configurable

if TYPE_CHECKING:
    from pipeline.enrich.classify import Classifier, Reply

LONGEST_LINE: Final = 65_536
"""Bytes of a line that are read; replies have 512 characters a line (RFC 5321 4.5.3.1.5)."""


@click.command("classify", short_help="Tell the class of a bounce and the rule that says so.")
@click.argument("text")
@click.option("--mx", metavar="HOST", help="MX host that gave the reply; tells the provider.")
@click.option("--domain", metavar="D", help="Recipient's domain, where the host tells nothing.")
@configurable
def classify(text: str, mx: str | None, domain: str | None) -> None:
    """Tell the class of a bounce, and which rule says so.

    TEXT is what the receiving server answered, or the local error when there was no answer; `-`
    reads one of them a line from standard input.  Prints a table on a terminal, else one JSON
    object a line.
    """
    from pipeline.enrich.classify import Classifier

    provider = _provider(mx, domain)
    classifier = Classifier()
    terminal = sys.stdout.isatty()
    for one in _lines(sys.stdin.buffer) if text == "-" else (text,):
        reply = _reply(one, provider)
        if terminal:
            _show(classifier, reply)
        else:
            sys.stdout.write(f"{json.dumps(_explained(classifier, reply))}\n")
            sys.stdout.flush()  # who pipes line by line gets an answer to each


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of *stream*, cut to :data:`LONGEST_LINE`; what is not UTF-8 is replaced."""
    while line := stream.readline(LONGEST_LINE):
        yield line.decode("utf-8", "replace").rstrip("\r\n")
        while len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE)


def _provider(mx: str | None, domain: str | None) -> str | None:
    """Return whose mailbox it is, by the host if that tells; None when neither was given."""
    from pipeline.enrich import addresses
    from pipeline.enrich.providers import OTHER, provider_of

    names = [name for name in map(addresses.domain, (mx, domain)) if name is not None]
    known = [provider for provider in map(provider_of, names) if provider != OTHER]
    return known[0] if known else OTHER if names else None


def _reply(text: str, provider: str | None) -> Reply:
    from pipeline.enrich.classify import LOOKED_AT, Reply
    from pipeline.enrich.reply import codes

    code, status = codes(text)
    return Reply(code, status, text[:LOOKED_AT] or None, None, provider)


def _explained(classifier: Classifier, reply: Reply) -> dict[str, Any]:
    bounce = classifier.classify(reply)
    return {
        "class": bounce.bounce_class,
        "category": bounce.category,
        "hard": bounce.hard,
        "scope": bounce.scope,
        "smtp_code": reply.code,
        "enhanced_status": reply.status,
        "provider": reply.provider,
        "rule": bounce.rule,
    }


def _show(classifier: Classifier, reply: Reply) -> None:
    """Print what a person wants to know of one reply."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.enrich.bounce_rules import CLASSES

    explained = _explained(classifier, reply)
    known = CLASSES[explained["class"]]
    told = {
        "class": f"{explained['class']}: {known.meaning}",
        "category": explained["category"],
        "hard": "yes, it would fail again" if explained["hard"] else "no, it may work later",
        "scope": explained["scope"],
        "reply code": explained["smtp_code"],
        "enhanced status": explained["enhanced_status"],
        "provider": explained["provider"],
        "rule": explained["rule"],
        "words": classifier.words(reply).strip(),
        "fingerprint": classifier.fingerprint(reply),
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in told.items():
        table.add_row(Text(name, "bold"), Text("-" if value in {None, ""} else str(value)))
    console = Console()
    console.print(table)
    console.print()
