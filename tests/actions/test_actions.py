"""The actions that wait, ask and search."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import types
from datetime import timedelta

import pytest

from nbtasks import TaskCancelledError
from nbtasks.actions import SearchAnswer, batch_web_search, periodic_health_check, reminder_timer
from nbtasks.exceptions import ActionError, InvalidValueError, MissingPackageError
from tests.http_server import serving


def test_a_reminder_comes_when_its_time_is_over_and_not_before(outcome, capfd):
    start = time.monotonic()
    assert outcome(reminder_timer, 0.3, "Tea!") == "Tea!"
    assert time.monotonic() - start >= 0.3
    assert capfd.readouterr().out == "Tea!\n"


def test_a_reminder_shows_what_is_left_and_at_the_end_its_message(manager, start):
    task = start(reminder_timer, timedelta(seconds=0.6), "Tea!")
    seen = []
    with manager.add_event_callback(lambda task, _: seen.append((task.progress, task.body)), ["progress"], task=task):
        task.wait(60)
    assert task.heading == "Tea!"
    assert any(progress is not None and 0 < progress < 100 for progress, _ in seen)
    assert any(body.endswith(" left") for _, body in seen if body)


def test_a_reminder_can_be_cancelled(start):
    task = start(reminder_timer, 1000, "never")
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(60)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "soon", None, True, timedelta(seconds=-1)])
def test_a_reminder_in_a_time_that_cannot_be_is_refused(outcome, seconds):
    with pytest.raises(InvalidValueError, match="duration_seconds must be "):
        outcome(reminder_timer, seconds, "never")


def test_a_reminder_without_a_message_is_refused(outcome):
    with pytest.raises(InvalidValueError, match="message must be a non-empty text, not ''"):
        outcome(reminder_timer, 1, "")


def test_a_health_check_counts_failures_and_takes_times(outcome):
    with serving(data=b"fine", statuses=[200, 503, 200, 404]) as server:
        summary = outcome(periodic_health_check, server.url, 0.01, 5)
    assert [check.status for check in summary.checks] == [200, 503, 200, 404, 200]
    assert [check.error for check in summary.failures] == ["503 Whatever", "404 Whatever"]
    assert summary.availability == pytest.approx(0.6)
    assert 0 < summary.mean_latency <= summary.max_latency < 60
    assert str(summary).startswith("3 of 5 checks passed, ")


def test_a_service_that_is_not_there_is_a_failed_check(outcome):
    with serving() as server:
        url = server.url
    summary = outcome(periodic_health_check, url, 0.01, 2)
    assert [check.status for check in summary.checks] == [None, None]
    assert summary.checks[0].error.startswith("ConnectError")
    assert (summary.availability, summary.mean_latency, summary.max_latency) == (0.0, None, None)


def test_a_service_that_does_not_answer_is_not_waited_for_for_long(outcome):
    with serving(silent=True) as server:
        summary = outcome(periodic_health_check, server.url, 0.01, 2, timeout_seconds=0.05)
    assert [check.error for check in summary.checks] == ["no answer within 0.05 s"] * 2


def test_checks_are_an_interval_apart_from_start_to_start(outcome):
    with serving(data=b"fine", pause=0.4) as server:
        summary = outcome(periodic_health_check, server.url, timedelta(seconds=0.5), 3)
    took = summary.checks[-1].at.timestamp() - summary.checks[0].at.timestamp()
    assert 0.95 <= took < 2 * 0.5 + sum(summary.latencies[:-1])


def test_a_health_check_shows_how_it_stands_and_can_be_cancelled(manager, start):
    received = threading.Event()
    with serving(data=b"fine") as server:
        manager.add_event_callback(lambda *_: received.set(), ["progress"])
        task = start(periodic_health_check, server.url, 1000, 4)
        assert received.wait(60)
        while not task.progress:
            received.wait(0.1)
        assert (task.progress, task.body.partition(",")[0]) == (25.0, "1 of 1 checks passed")
        task.cancel()
        with pytest.raises(TaskCancelledError):
            task.wait(60)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interval_seconds": -1}, "interval_seconds must be a number of seconds, more than 0, or a timedelta, not -1"),
        ({"interval_seconds": 0}, "interval_seconds must be a number of seconds, more than 0, or a timedelta, not 0"),
        ({"max_checks": 0}, "max_checks must be a whole number from 1 on, not 0"),
        ({"max_checks": 2.5}, "max_checks must be a whole number from 1 on, not 2.5"),
        (
            {"timeout_seconds": "long"},
            "timeout_seconds must be a number of seconds, more than 0, or a timedelta, not 'long'",
        ),
        ({"url": "example"}, "url must start with http:// or https://, not 'example'"),
    ],
)
def test_wrong_values_of_a_health_check_are_refused_before_it_asks(outcome, wrong, message):
    with serving(data=b"fine") as server:
        with pytest.raises(InvalidValueError) as error:
            outcome(periodic_health_check, **{"url": server.url, **wrong})
        assert message in str(error.value)
        assert server.requests == []


def test_queries_are_sent_in_turn_with_a_delay_between(outcome):
    queries = []

    def provider(query, max_results):
        queries.append((query, max_results, time.monotonic()))
        return [{"title": query.upper()}] * 5

    answers = outcome(batch_web_search, ["one", "two", "three"], 0.1, provider=provider, max_results=2)
    assert answers == [SearchAnswer(query, ({"title": query.upper()},) * 2) for query in ("one", "two", "three")]
    assert [query for query, _, _ in queries] == ["one", "two", "three"]
    assert queries[2][2] - queries[0][2] >= 0.2


def test_an_async_provider_is_awaited(outcome):
    async def provider(query, max_results):
        await asyncio.sleep(0)
        return [query]

    assert outcome(batch_web_search, ("one",), 0, provider=provider) == [SearchAnswer("one", ("one",))]


def test_a_plain_provider_may_block_and_holds_up_no_loop(manager, start):
    entered, go = threading.Event(), threading.Event()

    def provider(query, max_results):
        entered.set()
        assert go.wait(60)
        return []

    task = start(batch_web_search, ["one"], provider=provider)
    assert entered.wait(60)
    assert manager.create_task("beside", asyncio.sleep(0, "it turns")).wait(60) == "it turns"
    go.set()
    task.wait(60)


def test_a_query_that_fails_does_not_cost_the_others(start):
    def provider(query, max_results):
        if query == "two":
            raise OSError("blocked")
        return [query]

    task = start(batch_web_search, ["one", "two", "three"], 0, provider=provider)
    answers = task.wait(60)
    assert [answer.error for answer in answers] == [None, "OSError: blocked", None]
    assert task.body == "3 queries, 2 hits, 1 failed"


def test_a_search_engine_that_fails_now_and_then_gives_what_it_gives(outcome):
    import httpx

    async def provider(query, max_results):
        async with httpx.AsyncClient() as client:
            answer = await client.get(server.url, params={"q": query}, timeout=0.5)
            return answer.raise_for_status().json()

    with serving(data=b'["hit"]', statuses=[200, 500, 200, 200], drop_after=[99, 3]) as server:
        answers = outcome(batch_web_search, ["fine", "broken", "cut off", "fine again"], 0, provider=provider)
    assert [answer.hits for answer in answers] == [("hit",), (), (), ("hit",)]
    assert [(answer.error or "").partition(":")[0] for answer in answers] == [
        "",
        "HTTPStatusError",
        "RemoteProtocolError",
        "",
    ]


def test_where_all_queries_fail_the_search_does(outcome):
    def provider(query, max_results):
        raise OSError("no network")

    with pytest.raises(ActionError, match="none of 2 searches was answered; the last one: OSError: no network"):
        outcome(batch_web_search, ["one", "two"], 0, provider=provider)


def test_what_was_found_before_a_cancel_is_kept(start):
    answers: list[SearchAnswer] = []
    second = threading.Event()

    async def provider(query, max_results):
        if query == "two":
            second.set()
            await asyncio.Event().wait()
        return [query]

    task = start(batch_web_search, ["one", "two", "three"], 0, provider=provider, answers=answers)
    assert second.wait(60)
    assert task.progress == pytest.approx(100 / 3)
    task.cancel()
    with pytest.raises(TaskCancelledError):
        task.wait(60)
    assert answers == [SearchAnswer("one", ("one",))]


def test_the_default_provider_is_duckduckgo(outcome, monkeypatch):
    class DDGS:
        def text(self, query, max_results):
            return [{"title": query, "href": "http://127.0.0.1/", "body": str(max_results)}]

    monkeypatch.setitem(sys.modules, "ddgs", types.SimpleNamespace(DDGS=DDGS))
    answers = outcome(batch_web_search, ["one"], max_results=3)
    assert answers[0].hits == ({"title": "one", "href": "http://127.0.0.1/", "body": "3"},)


def test_without_a_search_library_it_says_what_to_install(outcome, monkeypatch):
    monkeypatch.setitem(sys.modules, "ddgs", None)
    with pytest.raises(MissingPackageError, match="needs ddgs: pip install ddgs"):
        outcome(batch_web_search, ["one"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queries": []}, "queries is empty: give at least one"),
        ({"queries": "one"}, "queries must be an iterable of non-empty texts, not 'one'"),
        ({"queries": ["one", " "]}, "queries must be an iterable of non-empty texts"),
        ({"queries": [7]}, "queries must be an iterable of non-empty texts"),
        ({"queries": None}, "queries must be an iterable of non-empty texts"),
        ({"delay_seconds": -1}, "delay_seconds must be a number of seconds, 0 or more, or a timedelta, not -1"),
        ({"max_results": 0}, "max_results must be a whole number from 1 on, not 0"),
        ({"provider": "google"}, "provider must be a function of a query and a number of results, not 'google'"),
    ],
)
def test_wrong_values_of_a_search_are_refused_before_it_asks(outcome, wrong, message):
    queries = []
    given = {"queries": ["one"], "provider": lambda *query: queries.append(query), **wrong}
    with pytest.raises(InvalidValueError) as error:
        outcome(batch_web_search, **given)
    assert message in str(error.value)
    assert queries == []
