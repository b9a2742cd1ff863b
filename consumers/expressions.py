"""Expressions over events, such as ``event_type == 'bounced' and response_code >= 550``.

The syntax is Python's, the evaluation simpleeval's, which knows the names below and nothing else.
Comparisons are total, so that no event makes an expression fail: with an absent field, or between
values of different kinds, only ``!=`` and ``not in`` hold; two absent ones are equal.

What can be wrong is told before the first event: unknown names, other syntax, constants of a kind
that the field never has.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_type_hints

import re2
from simpleeval import EvalWithCompoundTypes, InvalidExpression

from consumers.filters import FIELDS, Predicate
from pipeline.core.errors import MailstreamError
from pipeline.core.event import MailEvent

MAX_LENGTH: Final = 2000
MAX_DEPTH: Final = 50


class ExpressionError(MailstreamError):
    """An expression cannot be used; one sentence says why."""


def compiled(text: str, fields: Collection[str] = FIELDS) -> Predicate:
    """Return the predicate that *text* says of *fields*.

    Raises:
        ExpressionError: It says none.
    """
    tree = _parsed(text)
    _check_syntax(tree)
    _check_names(tree, fields)
    _check_calls(tree)
    _check_kinds(tree)
    evaluator = EvalWithCompoundTypes(operators=_OPERATORS, functions=dict(FUNCTIONS), names={})

    def matches(event: MailEvent) -> bool:
        evaluator.names = _Names(event)
        return bool(evaluator.eval(text, previously_parsed=tree))

    _try(matches)
    return matches


class _Names(dict[str, Any]):
    """The fields of one event, read as they are asked for."""

    def __init__(self, event: MailEvent) -> None:
        super().__init__()
        self._event = event

    def __missing__(self, name: str) -> Any:
        return getattr(self._event, name)


# -- operators and functions: none may fail on any value of a field

_BINARY: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
}


def _total(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def total(left: Any, right: Any) -> bool:
        try:
            return bool(compare(left, right))
        except TypeError:
            return False

    return total


_OPERATORS: Final[dict[type, Callable[..., Any]]] = {
    **{kind: _total(compare) for kind, compare in _BINARY.items()},
    ast.NotIn: lambda left, right: not _total(_BINARY[ast.In])(left, right),
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Not: operator.not_,
    ast.USub: operator.neg,
}


def _starts(value: object, start: object) -> bool:
    return isinstance(value, str) and value.startswith(str(start))


def _ends(value: object, end: object) -> bool:
    return isinstance(value, str) and value.endswith(str(end))


def _found(value: object, pattern: str) -> bool:
    return isinstance(value, str) and _regular(pattern).search(value) is not None


@lru_cache(maxsize=64)
def _regular(pattern: str) -> Any:
    """Return *pattern* compiled by RE2, whose time grows with the value alone, whatever both hold.

    Raises:
        re2.error: It is none.
        UnicodeEncodeError: It holds half a character.
    """
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


FUNCTIONS: Final[dict[str, Callable[..., object]]] = {
    "startswith": _starts,
    "endswith": _ends,
    "matches": _found,
    "lower": _lower,
}
"""``startswith(field, text)``, ``endswith(field, text)``, ``matches(field, regular expression)``,
``lower(field)``."""

_ARGUMENTS: Final = {"startswith": 2, "endswith": 2, "matches": 2, "lower": 1}

_SYNTAX: Final = (
    ast.Expr,
    ast.BoolOp,
    ast.boolop,
    ast.UnaryOp,
    ast.Compare,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Set,
    *_OPERATORS,
)


# -- what can be told before the first event


def _parsed(text: str) -> ast.Expr:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"it is longer than {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes, which regular expressions have
            body = ast.parse(text.strip()).body
    except SyntaxError as exc:
        raise ExpressionError(f"{exc.msg} at character {exc.offset or 1}") from exc
    except (ValueError, RecursionError, MemoryError) as exc:
        raise ExpressionError("it cannot be read") from exc
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        raise ExpressionError("it is not one expression; equality is ==")
    return body[0]


def _check_syntax(tree: ast.Expr) -> None:
    for node, depth in _walk(tree, 0):
        if not isinstance(node, _SYNTAX):
            raise ExpressionError(f"{type(node).__name__} is not part of the language")
        if depth > MAX_DEPTH:
            raise ExpressionError("it is nested too deeply")
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            _check_sign(node.operand)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            _check_items(node.elts)
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | None):
            raise ExpressionError(f"{node.value!r} is neither a text nor a number")


def _check_sign(operand: ast.expr) -> None:
    value = operand.value if isinstance(operand, ast.Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError("only numbers have a sign")


def _check_items(items: list[ast.expr]) -> None:
    for item in items:
        if not isinstance(item, ast.Constant | ast.Name | ast.Call | ast.UnaryOp):
            raise ExpressionError("lists hold texts, numbers and fields")


def _walk(node: ast.AST, depth: int) -> Iterator[tuple[ast.AST, int]]:
    yield node, depth
    if depth <= MAX_DEPTH:
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, depth + 1)


def _check_names(tree: ast.Expr, fields: Collection[str]) -> None:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in fields:
            if node.id in FIELDS:
                raise ExpressionError(f"{node.id} is not known here, only {', '.join(fields)}")
            near = get_close_matches(node.id, fields, 1)
            hint = f"the nearest is {near[0]}; " if near else ""
            raise ExpressionError(
                f"{node.id} is not a field of an event ({hint}texts stand in quotes)"
            )


def _check_calls(tree: ast.Expr) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise ExpressionError(f"the functions are {', '.join(FUNCTIONS)}")
        if len(node.args) != _ARGUMENTS[name]:
            raise ExpressionError(f"{name} takes {_ARGUMENTS[name]} values")
        if name == "matches":
            _check_pattern(node.args[1])


def _check_pattern(node: ast.expr) -> None:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ExpressionError("the second value of matches is a regular expression in quotes")
    try:
        _regular(node.value)
    except (re2.error, UnicodeEncodeError) as exc:
        why = exc.args[0] if isinstance(exc, re2.error) else "half a character"
        said = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise ExpressionError(
            f"{_short(node.value)} is no regular expression of RE2: {said.partition(': ')[0]}"
        ) from exc


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


_KINDS: Final = {str: "a text", int: "a number", float: "a number", bool: "True or False"}


def _kind(name: str) -> str:
    """Return what the field *name* holds."""
    hint = get_type_hints(MailEvent)[name]
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next(_KINDS.get(kind, "a table") for kind in kinds if kind is not NoneType)


def _check_kinds(tree: ast.Expr) -> None:
    """Refuse a comparison that can never hold, such as of a number with a text."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            for field, other in ((left, right), (right, left)):
                if isinstance(field, ast.Name):
                    _check_kind(field.id, op, other, inside=other is right)


def _check_kind(name: str, op: ast.cmpop, other: ast.expr, *, inside: bool) -> None:
    if isinstance(op, ast.In | ast.NotIn) and inside:
        if isinstance(other, ast.Constant) and isinstance(other.value, str):
            return  # part of a text
        if not isinstance(other, ast.List | ast.Tuple | ast.Set | ast.Name | ast.Call):
            raise ExpressionError("what stands behind `in` is a list such as ['a', 'b'], or a text")
        others = other.elts if isinstance(other, ast.List | ast.Tuple | ast.Set) else []
    else:
        others = [other]
    kind = _kind(name)
    for one in others:
        if not isinstance(one, ast.Constant) or one.value is None:
            continue
        if _KINDS[type(one.value)] != kind:
            raise ExpressionError(
                f"{name} is {kind}, and {one.value!r} is {_KINDS[type(one.value)]}"
            )


def _try(matches: Predicate) -> None:
    try:
        matches(MailEvent())
    except (InvalidExpression, TypeError, ValueError, RecursionError) as exc:
        raise ExpressionError(str(exc)) from exc
