"""The ASGI app of the web interface: routes for tasks, lanes and schedules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Collection
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from nbtasks.exceptions import InvalidValueError, NbtasksError
from nbtasks.manager import TaskManager
from nbtasks.schedules.recurring_task import RecurringTask
from nbtasks.states import TaskState
from nbtasks.task import Task, can_run_again
from nbtasks.web.event_log import EventLog
from nbtasks.web.openapi import openapi
from nbtasks.web.records import TASK_FIELDS, lane_records, output_tail, recurring_record, task_record
from nbtasks.web.security import Guard

__all__ = ["create_app"]

MAX_LISTED = 1_000
MAX_TAIL = 1_000_000
MAX_PRIORITY = 10**9

FILTERS = (*(name for name in TASK_FIELDS if name not in {"progress", "timeout"}), "task_type")
"""The attributes by which the list of tasks can be filtered."""


def create_app(
    manager: TaskManager,
    *,
    token: str | bool = True,
    hosts: Collection[str] = (),
    retry: Callable[[Task], Any] | None = None,
    heartbeat: float = 15.0,
    max_listeners: int = 2_000,
) -> Guard:
    """Make the ASGI app that lists and steers the tasks of `manager`; mount it anywhere, under any prefix.

    `token`: True makes a random one (`app.token`), a string is the token, False asks for none, for an application that
    decides about access itself. `hosts`: names besides localhost by which the app is reached ("*": any). `retry` runs
    a finished task once more; by default as a new task of the manager. `heartbeat`: seconds between two signs of life
    on an idle event stream. `max_listeners`: event streams at once; more are answered with 503.
    """
    if token is not True and token is not False and (not isinstance(token, str) or len(token) < 16):
        raise InvalidValueError("token is True, False or a string of at least 16 characters")
    secret = secrets.token_urlsafe(32) if token is True else (token or None)
    page = files("nbtasks.web").joinpath("page.html").read_text("utf-8")
    routes = _Routes(manager, retry, page).routes()
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, NbtasksError: _task_error})
    return Guard(
        app,
        EventLog(manager, heartbeat=heartbeat),
        token=secret,
        hosts=hosts,
        policy=_policy(page),
        max_listeners=max_listeners,
    )


class _Routes:
    """The handlers of one app.

    They run on the server's loop; calls that may block run on a thread.
    """

    def __init__(
        self,
        manager: TaskManager,
        retry: Callable[[Task], Any] | None,
        page: str,
    ) -> None:
        self._manager = manager
        self._retry = retry or (lambda task: manager.add_task(task.clone()))
        self._page = page

    def routes(self) -> list[Route]:
        """All routes; the names of methods and paths are those of the OpenAPI description."""
        get, post = ["GET"], ["POST"]
        return [
            Route("/", self.page, methods=get),
            Route("/openapi.json", self.description, methods=get),
            Route("/api/tasks", self.list_tasks, methods=get),
            Route("/api/tasks/{id}", self.get_task, methods=get),
            Route("/api/tasks/{id}/output", self.get_output, methods=get),
            Route("/api/tasks/{id}/result", self.get_result, methods=get),
            Route("/api/tasks/{id}/cancel", self.cancel, methods=post),
            Route("/api/tasks/{id}/priority", self.set_priority, methods=post),
            Route("/api/tasks/{id}/retry", self.retry, methods=post),
            Route("/api/lanes", self.list_lanes, methods=get),
            Route("/api/stats", self.get_stats, methods=get),
            Route("/api/recurring", self.list_recurring, methods=get),
            Route("/api/recurring/{id}", self.get_recurring, methods=get),
            Route("/api/recurring/{id}/pause", self.pause, methods=post),
            Route("/api/recurring/{id}/resume", self.resume, methods=post),
            Route("/api/recurring/{id}/run", self.run_now, methods=post),
        ]

    # -- the page and its stream ----------------------------------------------------------------------------------

    async def page(self, _request: Request) -> Response:
        return HTMLResponse(self._page)

    async def description(self, _request: Request) -> Response:
        return JSONResponse(openapi())

    # -- tasks ----------------------------------------------------------------------------------------------------

    async def list_tasks(self, request: Request) -> Response:
        query = request.query_params
        limit, offset = _number(query.get("limit", "100"), "limit", 1, MAX_LISTED), 0
        if "offset" in query:
            offset = _number(query["offset"], "offset", 0, 10**9)
        criteria: dict[str, Any] = {}
        for name in query:
            if name in {"limit", "offset", "token"}:
                continue
            if name not in FILTERS:
                raise HTTPException(422, f"{name!r} is no filter; allowed are {', '.join(FILTERS)}")
            values = query.getlist(name)
            criteria[name] = _criterion(name, values)
        tasks = self._manager.search_tasks(**criteria)
        tasks.reverse()
        return JSONResponse(
            {"tasks": [task_record(task) for task in tasks[offset : offset + limit]], "total": len(tasks)}
        )

    async def get_task(self, request: Request) -> Response:
        return JSONResponse(task_record(self._task(request)))

    async def get_output(self, request: Request) -> Response:
        tail = _number(request.query_params.get("tail", "20000"), "tail", 1, MAX_TAIL)
        return JSONResponse({"text": output_tail(self._task(request), tail)})

    async def get_result(self, request: Request) -> Response:
        task = self._task(request)
        if task.state is not TaskState.COMPLETED:
            raise HTTPException(409, f"{task.name!r} has no result: it is {task.state.value}")
        try:
            text = json.dumps({"result": task.result}, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise HTTPException(406, f"the result is no JSON value: {type(task.result).__name__}") from None
        return Response(text, media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        task = self._task(request)
        await _nothing(request)
        return JSONResponse({"done": await asyncio.to_thread(self._manager.cancel_task, task)})

    async def set_priority(self, request: Request) -> Response:
        task = self._task(request)
        body = await _json(request)
        priority = body.get("priority") if isinstance(body, dict) and set(body) == {"priority"} else None
        if isinstance(priority, float) and priority.is_integer():  # JSON has one kind of number: 1.0 is whole
            priority = int(priority)
        if type(priority) is not int or not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise HTTPException(422, 'the body is {"priority": N} with a whole number')
        return JSONResponse({"done": self._manager.set_priority(task, priority)})

    async def retry(self, request: Request) -> Response:
        task = self._task(request)
        await _nothing(request)
        if not task.done:
            raise HTTPException(409, f"{task.name!r} is {task.state.value}: only a finished task can run again")
        if not can_run_again(task):
            raise HTTPException(409, f"{task.name!r} cannot run again: its work was a coroutine, or is gone")
        again = await asyncio.to_thread(self._retry, task)
        return JSONResponse({"done": True, "task": task_record(again) if isinstance(again, Task) else None})

    # -- lanes, numbers, schedules ------------------------------------------------------------------------------------

    async def list_lanes(self, _request: Request) -> Response:
        return JSONResponse({"lanes": lane_records(self._manager)})

    async def get_stats(self, _request: Request) -> Response:
        return JSONResponse(self._manager.get_stats())

    async def list_recurring(self, _request: Request) -> Response:
        found = [recurring_record(recurring) for recurring in self._manager.list_recurring_tasks()]
        return JSONResponse({"recurring": found})

    async def get_recurring(self, request: Request) -> Response:
        return JSONResponse(recurring_record(self._recurring(request)))

    async def pause(self, request: Request) -> Response:
        return await self._steer(request, self._manager.disable_recurring_task)

    async def resume(self, request: Request) -> Response:
        return await self._steer(request, self._manager.enable_recurring_task)

    async def run_now(self, request: Request) -> Response:
        return await self._steer(request, lambda recurring: self._manager.run_now(recurring) is not None)

    async def _steer(self, request: Request, steer: Callable[[RecurringTask], bool]) -> Response:
        recurring = self._recurring(request)
        await _nothing(request)
        return JSONResponse({"done": await asyncio.to_thread(steer, recurring)})

    def _task(self, request: Request) -> Task:
        task = self._manager.get_task(request.path_params["id"])
        if task is None:
            raise HTTPException(404, "no such task")
        return task

    def _recurring(self, request: Request) -> RecurringTask:
        recurring = self._manager.get_recurring_task(request.path_params["id"])
        if recurring is None:
            raise HTTPException(404, "no such recurring task")
        return recurring


def _criterion(name: str, values: list[str]) -> Any:
    if name == "state":
        allowed = {state.value for state in TaskState}
        unknown = [value for value in values if value not in allowed]
        if unknown:
            raise HTTPException(422, f"no state {unknown[0]!r}; allowed are {', '.join(sorted(allowed))}")
        return values
    if name == "tags":
        return values
    if name in {"priority", "attempts"}:
        return _number(values[-1], name, -MAX_PRIORITY, MAX_PRIORITY)
    if name in {"created_at", "started_at", "completed_at", "cancel_requested_at"}:
        return lambda moment: moment is not None and moment.isoformat() == values[-1]
    return values[-1]


def _number(text: str, name: str, least: int, most: int) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise HTTPException(422, f"{name} is a whole number from {least} to {most}, not {text!r}")
    return int(text)


async def _json(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "the body must be application/json")
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HTTPException(413, "the body is too long") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(422, "the body is no JSON") from None


async def _nothing(request: Request) -> None:
    """Read a body that is empty or JSON without content."""
    with contextlib.suppress(ClientDisconnect):
        body = await request.body()
        if body.strip() not in (b"", b"{}", b"null"):
            raise HTTPException(422, "this request has no body")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _task_error(_request: Request, error: Exception) -> Response:
    """What the manager refuses, such as work after it was stopped."""
    return JSONResponse({"error": str(error)}, status_code=409)


def _policy(page: str) -> str:
    """The content security policy: only the page's own script and style, by their hashes."""
    script, style = (
        base64.b64encode(hashlib.sha256(re.search(f"<{tag}>(.*?)</{tag}>", page, re.S)[1].encode()).digest()).decode()  # type: ignore[index]
        for tag in ("script", "style")
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
