"""The settings as people read them: a table of options, an example file, the effective values.

All three are made from the models, so that none can say something else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.kit.settings import HASH_KEY_VARIABLE, Settings
from pipeline.kit.settings_shape import (
    FILE_SUFFIX,
    Place,
    dotted,
    is_secret,
    is_section,
    kind_in,
    model_at,
    model_in,
    optional_section,
)

_WIDTH: Final = 96
_INDENT: Final = "  "
_DEFAULTS_AS_WRITTEN: Final = {"privacy.hash_key": f"${{{HASH_KEY_VARIABLE}}}"}
_TYPES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    str: "text",
}
_HEADING: Final = """\
Every key with its default.  ${NAME} and ${NAME:-default} in a value stand for an environment
variable, $${ for a plain ${.  Instead of a secret x, x_file may name a file that holds it.
Durations are 500ms, 10s, 5m, 24h, 7d; sizes are bytes; port 0 is any free one."""


OPTIONAL: Final = "section or null"
"""The type of a section that may be absent; its keys count only where it is there."""


class Option(NamedTuple):
    """One key."""

    key: str
    type: str
    default: Any
    """As JSON has it; ``...`` where a value must be given."""
    description: str


def options(model: type[BaseModel] = Settings, place: Place = ()) -> Iterator[Option]:
    """Yield every key of *model* and of the sections and lists in it."""
    for name, info in model.model_fields.items():
        below = model_in(info.annotation)
        at = (*place, name)
        if below is not None and is_section(info.annotation):
            yield from options(below, at)
            continue
        key = dotted(at)
        default = _DEFAULTS_AS_WRITTEN.get(key, _default(model, name))
        yield Option(key, _type_of(info), default, info.description or "")
        optional = optional_section(info.annotation)
        if optional is not None:
            yield from options(optional, at)
        elif below is not None:
            yield from options(below, (*at[:-1], f"{name}[]"))


def _default(model: type[BaseModel], name: str) -> Any:
    info = model.model_fields[name]
    if info.default is PydanticUndefined and info.default_factory is None:
        return ...
    # Not validated: what must be given has no value that stands for it.
    return model.model_construct().model_dump(mode="json", include={name})[name]


def _type_of(info: FieldInfo) -> str:
    if is_secret(info.annotation):
        return "secret"
    if optional_section(info.annotation) is not None:
        return OPTIONAL
    word = _word(info.annotation, info)
    return f"{word} or null" if type(None) in get_args(info.annotation) else word


def _word(annotation: Any, info: FieldInfo) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    kind = kind_in(info)
    if origin is tuple:
        below = model_in(annotation)
        return "list" if below is not None else f"list of {_plural(_word(parts[0], info))}"
    if origin is dict:
        return f"keys with {_plural(_word(parts[1], info))}"
    if origin is Literal:
        return ", ".join(map(str, parts))
    if kind is not None:
        return kind.name
    if annotation in _TYPES:
        return _TYPES[annotation]
    return next((_word(part, info) for part in parts if part is not type(None)), "text")


def _plural(word: str) -> str:
    if "," in word or word == "text":
        return word
    return f"{word[:-1]}es" if word.endswith("sses") else f"{word}s"


def option_table() -> str:
    """Return the table of all options, in Markdown."""
    lines = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for option in options():
        default = "must be given" if option.default is ... else f"`{_scalar(option.default)}`"
        name = option.key.rpartition(".")[2] + FILE_SUFFIX
        secret = f" Or `{name}`." if option.type == "secret" else ""
        kind = option.type.replace("|", "\\|")
        lines.append(f"| `{option.key}` | {kind} | {default} | {option.description}{secret} |")
    return "\n".join(lines) + "\n"


def example() -> str:
    """Return a configuration file of all defaults, with comments, that loads as it is."""
    lines = [*_comment(_HEADING, ""), ""]
    section = ""
    absent: tuple[str, ...] = ()
    for option in options():
        above, _, name = option.key.rpartition(".")
        if "[]" in above or option.key.startswith(absent):
            continue
        if option.type == OPTIONAL:
            absent = (*absent, f"{option.key}.")
        if above != section:
            lines += ["", *_opened(above, section)]
            section = above
        indent = _INDENT * len(above.split(".")) if above else ""
        secret = (
            f" Secret; or {name}{FILE_SUFFIX}: the path of a file."
            if option.type == "secret"
            else ""
        )
        lines += _comment(f"{option.description.replace('`', '')}{secret}", indent)
        lines.append(f"{indent}{name}: {_scalar(option.default)}")
    return "\n".join(lines) + "\n"


def _opened(section: str, before: str) -> Iterator[str]:
    """Yield the lines that open a section by its dotted key, after those that are open *before*."""
    if not section:
        return
    names = section.split(".")
    is_within = section.startswith(f"{before}.") and bool(before)
    first = len(before.split(".")) if is_within else 0
    model = model_at(Settings, tuple(names))
    yield from _comment((model.__doc__ or "") if model else "", _INDENT * first)
    for depth, one in enumerate(names[first:], first):
        yield f"{_INDENT * depth}{one}:"


def effective(settings: Settings) -> str:
    """Return the effective settings as YAML, secrets masked."""
    return yaml.safe_dump(
        settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=_WIDTH
    )


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> list[str]:
    wrapped = (
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, _WIDTH - len(indent))
    )
    return [f"{indent}# {line}" for line in wrapped]
