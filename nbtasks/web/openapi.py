"""The OpenAPI description of the web interface."""

from __future__ import annotations

from typing import Any

from nbtasks.states import TaskState

__all__ = ["openapi"]

_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_TIME: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_STATES = [state.value for state in TaskState]

_TASK = {
    "id": {"type": "string"},
    "name": {"type": "string"},
    "state": {"enum": _STATES},
    "priority": _WHOLE,
    "lane": {"type": "string"},
    "backend": _TEXT,
    "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 100, "description": "null: unknown"},
    "heading": _TEXT,
    "body": _TEXT,
    "error": _TEXT,
    "attempts": _WHOLE,
    "parent_id": _TEXT,
    "tags": {"type": "array", "items": {"type": "string"}},
    "after": {"type": "array", "items": {"type": "string"}},
    "timeout": {"type": ["number", "null"], "description": "seconds"},
    "created_at": _TIME,
    "started_at": _TIME,
    "completed_at": _TIME,
    "cancel_requested_at": _TIME,
    "task_type": {"type": "string"},
}


def openapi() -> dict[str, Any]:
    """The description, OpenAPI 3.1."""
    task, recurring, error = ({"$ref": f"#/components/schemas/{name}"} for name in ("Task", "RecurringTask", "Error"))
    tasks = {"type": "object", "properties": {"tasks": _list(task), "total": _WHOLE}, "required": ["tasks", "total"]}
    done = _object({"done": {"type": "boolean", "description": "false: nothing was left to do"}}, ["done"])
    identity = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}

    def get(summary: str, schema: dict[str, Any], *codes: int, parameters: list[Any] | None = None) -> dict[str, Any]:
        return {"get": _operation(summary, schema, codes, error, parameters)}

    def post(summary: str, schema: dict[str, Any], *codes: int, body: dict[str, Any] | None = None) -> dict[str, Any]:
        operation = _operation(summary, schema, codes, error, None)
        if body is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        return {"post": operation}

    def one(item: dict[str, Any]) -> dict[str, Any]:
        return {"parameters": [identity], **item}

    priority = _object({"priority": {"type": "integer", "minimum": -(10**9), "maximum": 10**9}}, ["priority"])
    return {
        "openapi": "3.1.0",
        "info": {"title": "nbtasks", "version": "1", "description": "The tasks of one manager."},
        "servers": [{"url": "."}],
        "security": [{"token": []}],
        "paths": {
            "/api/tasks": get("List tasks, newest first", tasks, 422, parameters=_filters()),
            "/api/tasks/{id}": one(get("One task", task, 404)),
            "/api/tasks/{id}/output": one(
                get(
                    "The last characters that a cell wrote",
                    _object({"text": {"type": "string"}}, ["text"]),
                    404,
                    422,
                    parameters=[_query("tail", {"type": "integer", "minimum": 1, "maximum": 1_000_000})],
                )
            ),
            "/api/tasks/{id}/result": one(
                get("The result, if it is a JSON value", _object({"result": {}}, ["result"]), 404, 406, 409)
            ),
            "/api/tasks/{id}/cancel": one(post("Cancel a task", done, 404, 422)),
            "/api/tasks/{id}/priority": one(post("Change a priority", done, 404, 413, 415, 422, body=priority)),
            "/api/tasks/{id}/retry": one(
                post(
                    "Run a finished task again",
                    _object({"done": {"type": "boolean"}, "task": {"anyOf": [task, {"type": "null"}]}}, ["done"]),
                    404,
                    409,
                    422,
                )
            ),
            "/api/lanes": get("Lanes and their limits", _object({"lanes": _list(_LANE)}, ["lanes"])),
            "/api/stats": get("Tasks by state", {"type": "object", "additionalProperties": _WHOLE}),
            "/api/recurring": get("List recurring tasks", _object({"recurring": _list(recurring)}, ["recurring"])),
            "/api/recurring/{id}": one(get("One recurring task", recurring, 404)),
            "/api/recurring/{id}/pause": one(post("Pause a schedule", done, 404, 409, 422)),
            "/api/recurring/{id}/resume": one(post("Resume a schedule", done, 404, 409, 422)),
            "/api/recurring/{id}/run": one(post("Start an instance now", done, 404, 409, 422)),
            "/events": _events(error),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Task": _object(_TASK, list(_TASK)),
                "RecurringTask": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "name": {"type": "string"},
                        "enabled": {"type": "boolean"},
                        "schedule": {"type": "string"},
                        "next_run": _TIME,
                        "last_run": _TIME,
                    },
                    "required": ["id", "name", "enabled", "schedule"],
                },
                "Error": _object({"error": {"type": "string"}}, ["error"]),
            },
        },
    }


_LANE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "limit": {"type": ["integer", "null"], "description": "null: no limit"},
        "running": _WHOLE,
        "pending": _WHOLE,
    },
    "required": ["name", "limit", "running", "pending"],
}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _filters() -> list[dict[str, Any]]:
    several = {"style": "form", "explode": True}
    text = [_query(name, {"type": "string"}) for name in ("id", "name", "lane", "backend", "parent_id", "task_type")]
    return [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100}),
        _query("offset", {"type": "integer", "minimum": 0, "maximum": 10**9, "default": 0}),
        {**_query("state", _list({"enum": _STATES})), **several},
        {**_query("tags", _list({"type": "string"})), **several},
        *text,
    ]


def _operation(
    summary: str, schema: dict[str, Any], codes: tuple[int, ...], error: dict[str, Any], parameters: list[Any] | None
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": summary, "content": {"application/json": {"schema": schema}}},
    }
    for code in (401, 403, 421, *codes):
        responses[str(code)] = {"description": "refused", "content": {"application/json": {"schema": error}}}
    operation: dict[str, Any] = {"summary": summary, "responses": dict(sorted(responses.items()))}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _events(error: dict[str, Any]) -> dict[str, Any]:
    header = {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"}}
    text = {"schema": {"type": "string"}}
    refused = {"description": "refused", "content": {"application/json": {"schema": error}}}
    return {
        "get": {
            "summary": "Server-sent events: a snapshot, then every change of state, progress and output",
            "parameters": [header],
            "responses": {
                "200": {"description": "a stream", "content": {"text/event-stream": text}},
                "401": refused,
                "403": refused,
                "421": refused,
                "503": {"description": "too many listeners", "content": {"application/json": {"schema": error}}},
            },
        }
    }
