"""The shape of the settings' models: sections, lists, secrets and paths, found by annotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pipeline.kit.settings_yaml import shown
from pipeline.kit.values import Kind, kind_of

Place = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists."""

FILE_SUFFIX = "_file"
"""``x_file`` names a file that holds the secret ``x``."""


def dotted(place: Place) -> str:
    """Return *place* as messages show it: ``ingest.api_keys[0].key``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}"
    return text.removeprefix(".")


def is_section(annotation: Any) -> bool:
    """Tell whether the annotation itself is a model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def optional_section(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section that may be absent (``Model | None``), or None."""
    parts = get_args(annotation)
    if len(parts) != 2 or type(None) not in parts:
        return None
    return next((part for part in parts if is_section(part) and part is not type(None)), None)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that the annotation is, or is a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def is_secret(annotation: Any) -> bool:
    """Tell whether a field so annotated holds a secret."""
    return annotation is SecretStr or any(is_secret(part) for part in get_args(annotation))


def is_path(annotation: Any) -> bool:
    """Tell whether a field so annotated holds a path."""
    return annotation is Path or any(is_path(part) for part in get_args(annotation))


def kind_in(info: FieldInfo) -> Kind | None:
    """Return the kind of a field's value, or of the items of its list; the outermost counts."""
    return kind_of(info.metadata[::-1]) or _kind_below(info.annotation)


def _kind_below(annotation: Any) -> Kind | None:
    metadata = getattr(annotation, "__metadata__", ())
    own = kind_of(list(metadata)[::-1])
    if own is not None:
        return own
    return next((found for part in get_args(annotation) if (found := _kind_below(part))), None)


def model_at(root: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """Return the model whose keys stand directly below *place*."""
    model = root
    for part in place:
        if isinstance(part, int):
            continue
        info = model.model_fields.get(part)
        below = model_in(info.annotation) if info is not None else None
        if below is None:
            return None
        model = below
    return model


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys that a file may give for *model*, ``x_file`` of secrets included."""
    for name, info in model.model_fields.items():
        yield name
        if is_secret(info.annotation):
            yield name + FILE_SUFFIX


def all_keys(model: type[BaseModel], place: Place = ()) -> Iterator[Place]:
    """Yield the place of every key of *model* and of the sections in it."""
    for name in keys_of(model):
        yield (*place, name)
        info = model.model_fields.get(name)
        if info is None:
            continue
        below = optional_section(info.annotation)
        if is_section(info.annotation):
            below = model_in(info.annotation)
        if below is not None:
            yield from all_keys(below, (*place, name))
