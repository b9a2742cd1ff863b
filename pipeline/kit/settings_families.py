"""What the configuration says about families: which are off, and what else is counted."""

from __future__ import annotations

import difflib
from typing import Annotated, Final

from pydantic import AfterValidator

from pipeline.core.dimensions import DIMENSION_FIELDS, MOST_DIMENSIONS, MOST_FIELDS, is_name
from pipeline.core.families import FAMILY
from pipeline.kit.values import Items, Kind, unusable

_FAMILY: Final = f"one of {', '.join(FAMILY)}"
_FIELDS: Final = f"a list of one or two of {', '.join(DIMENSION_FIELDS)}"
_NAME: Final = (
    "a name of small letters, digits and single underscores, at most 40 characters, whose metric "
    "mail_<name>_events is not there yet"
)
_FEW: Final = f"at most {MOST_DIMENSIONS} names"


def _family(text: str) -> str:
    if text not in FAMILY:
        raise unusable(_FAMILY)
    return text


def _published(text: str) -> str:
    if text not in FAMILY:
        (nearest,) = difflib.get_close_matches(text, FAMILY, n=1, cutoff=0.0)
        raise unusable(f"{_FAMILY}; the nearest is {nearest}")
    return text


def _name(text: str) -> str:
    if not is_name(text):
        raise unusable(_NAME)
    return text


def _fields(fields: tuple[str, ...]) -> tuple[str, ...]:
    if not 0 < len(fields) <= MOST_FIELDS or len(set(fields)) < len(fields):
        raise unusable(_FIELDS)
    if any(field not in DIMENSION_FIELDS for field in fields):
        raise unusable(_FIELDS)
    return fields


def _few(dimensions: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if len(dimensions) > MOST_DIMENSIONS:
        raise unusable(_FEW)
    return dimensions


FamilyName = Annotated[str, AfterValidator(_family), Kind("family name", _FAMILY)]
PublishedName = Annotated[str, AfterValidator(_published), Kind("family name", _FAMILY)]
_DimensionName = Annotated[str, AfterValidator(_name)]
_DimensionFields = Annotated[Items[str], AfterValidator(_fields), Kind("field list", _FIELDS)]
Dimensions = Annotated[dict[_DimensionName, _DimensionFields], AfterValidator(_few)]
