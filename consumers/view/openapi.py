"""The description of the API for machines, OpenAPI 3.0, made from the table of routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

from consumers.view.parameters import Parameter, Route

_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_EVERY: Final = (400, 403)
"""A parameter that is not understood; a stranger, or a Host header of another machine."""


def described(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the description of *routes*."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "mailstream view",
            "version": version,
            "description": "What the stream says now. Times are seconds since the epoch.",
        },
        "paths": {route.path: {"get": _operation(route)} for route in routes},
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "detail"],
                    "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
                }
            },
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [_parameter(one) for one in route.parameters],
        "responses": dict(_responses(route)),
    }
    return {**found, "security": [{"key": []}]} if route.needs_key else found


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": "path" if one.in_path else "query",
        "required": one.required,
        "description": one.help,
        "schema": one.schema(),
    }


def _responses(route: Route) -> Iterator[tuple[str, Any]]:
    answer: dict[str, Any] = {"type": "string"}
    if route.answers:
        properties: dict[str, Any] = {name: {} for name in route.answers}
        answer = {"type": "object", "required": list(route.answers), "properties": properties}
    yield "200", _response(200, route.media_type, answer)
    for status in sorted({*_EVERY, *route.statuses}):
        schema = (
            answer
            if route.name == "health" and status == HTTPStatus.SERVICE_UNAVAILABLE
            else _ERROR
        )
        yield str(status), _response(status, "application/json", schema)


def _response(status: int, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {media_type: {"schema": schema}},
    }
