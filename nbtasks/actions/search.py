"""`batch_web_search`: send queries to a search engine one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from inspect import isawaitable
from typing import Any

from nbtasks import validation
from nbtasks.actions.call_thread import CallThread
from nbtasks.callables import is_async
from nbtasks.exceptions import ActionError, InvalidValueError
from nbtasks.packages import require
from nbtasks.task import Task

__all__ = ["SearchAnswer", "batch_web_search"]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The outcome of a query: the hits from the provider, or an error message."""

    query: str
    hits: tuple[Any, ...] = ()
    error: str | None = None


async def batch_web_search(
    task: Task,
    queries: Iterable[str],
    delay_seconds: float | timedelta = 1.0,
    *,
    max_results: int = 10,
    provider: Callable[[str, int], Any] | None = None,
    answers: list[SearchAnswer] | None = None,
) -> list[SearchAnswer]:
    """Search for each of `queries` in turn, `delay_seconds` apart; one answer for each, in their order.

    `provider(query, max_results)` gives the hits, plain (it is called in a thread) or async; by default DuckDuckGo's
    text search, by the package ddgs, whose hits are dicts with `title`, `href` and `body`. A query that fails does not
    end the others; if all fail, ActionError is raised. Answers are put into the list `answers` as they come, so that it
    has those of a search that is cancelled.
    """
    wanted = _checked_queries(queries)
    delay = validation.seconds("delay_seconds", delay_seconds)
    validation.whole_number("max_results", max_results, 1)
    if provider is not None and not callable(provider):
        raise InvalidValueError(f"provider must be a function of a query and a number of results, not {provider!r}")
    search = provider or _duckduckgo()
    found: list[SearchAnswer] = [] if answers is None else answers
    mine: list[SearchAnswer] = []
    with CallThread() as calls:
        for number, query in enumerate(wanted):
            task.body = f"{number + 1} of {len(wanted)}: {query}"
            answer = await _ask(calls, search, query, max_results)
            mine.append(answer)
            found.append(answer)
            task.progress = 100.0 * len(mine) / len(wanted)
            if len(mine) < len(wanted):
                await asyncio.sleep(delay)
    failed = [answer for answer in mine if answer.error is not None]
    if len(failed) == len(wanted):
        raise ActionError(f"none of {len(wanted)} searches was answered; the last one: {failed[-1].error}")
    task.body = f"{len(wanted)} queries, {sum(len(answer.hits) for answer in mine)} hits, {len(failed)} failed"
    return mine


def _checked_queries(queries: Any) -> list[str]:
    wanted = [queries] if isinstance(queries, str) or not isinstance(queries, Iterable) else list(queries)
    if isinstance(queries, str) or any(not isinstance(query, str) or not query.strip() for query in wanted):
        raise InvalidValueError(f"queries must be an iterable of non-empty texts, not {queries!r}")
    if not wanted:
        raise InvalidValueError("queries is empty: give at least one")
    return wanted


async def _ask(calls: CallThread, search: Callable[[str, int], Any], query: str, max_results: int) -> SearchAnswer:
    try:
        hits = search(query, max_results) if is_async(search) else await calls.call(search, query, max_results)
        if isawaitable(hits):
            hits = await hits
        return SearchAnswer(query, tuple(hits or ())[:max_results])
    except Exception as error:  # noqa: BLE001 - of the provider; the other queries are still sent
        return SearchAnswer(query, error=f"{type(error).__name__}: {error}")


def _duckduckgo() -> Callable[[str, int], Any]:
    ddgs = require("ddgs", "batch_web_search without a provider of your own")

    def search(query: str, max_results: int) -> Any:
        return ddgs.DDGS().text(query, max_results=max_results)

    return search
