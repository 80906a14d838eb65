"""Generators and coroutines in another process that have not begun here."""

from __future__ import annotations

import asyncio
import inspect
import warnings

import pytest

from nbtasks.workers.serialization import pack, unpack
from tests.workers.other_process import other_process


async def pause():
    await asyncio.sleep(0)


RUN = "import asyncio\nwith asyncio.Runner() as runner: found = runner.run("


@pytest.fixture(scope="module")
def other():
    with other_process() as one:
        yield one


def made(start):
    """One of each kind, with a closure and arguments of each kind."""

    def generator(one, /, two, *more, three=3, **rest):
        yield start, one, two
        yield more, three, rest

    async def coroutine(*, three):
        return start, three

    async def ticks(one):
        yield start, one

    return (
        generator(1, 2, 4, 5, six=6),
        (start + n for n in range(3)),
        coroutine(three=3),
        ticks(7),
    )


def test_they_run_there_as_here(other):
    with warnings.catch_warnings(action="error"):
        generator, expression, coroutine, ticks = made(10)
        assert other.use(generator, "found = list(it)") == (generator, [(10, 1, 2), ((4, 5), 3, {"six": 6})])
        assert other.use(expression, "found = list(it)") == (expression, [10, 11, 12])
        assert other.use(coroutine, f"{RUN}it)") == (coroutine, (10, 3))
        each = f"async def each(): return [one async for one in it]\n{RUN}each())"
        assert other.use(ticks, each) == (ticks, [(10, 7)])


def test_they_have_ended_here_when_they_have_ended_there(other):
    generator, expression, coroutine, ticks = made(1)
    for one in (generator, expression, coroutine):
        other.use(one, "it.close()")
    other.use(ticks, f"import asyncio\nasync def end(): await it.aclose()\n{RUN}end())")
    assert (list(generator), list(expression)) == ([], [])
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert ticks.ag_frame is None


def test_one_that_was_not_used_there_has_not_begun_here(other):
    generator = (n for n in [1, 2, 3])
    assert other.use(generator, "found = it.__qualname__") == (generator, generator.__qualname__)
    assert list(generator) == [1, 2, 3]


def test_one_that_was_made_there_comes_back(other):
    back, _ = other.use(2, "def count(n): yield from range(n)\nit = count(it)")
    assert (list(back), back.__name__) == ([0, 1], "count")


def test_the_use_of_one_in_both_processes_is_an_error(other):
    generator = (n for n in [1, 2, 3])
    other.send(generator, "list(it)")
    next(generator)
    with pytest.raises(TypeError, match="was used in both processes at the same time"):
        other.receive()


def test_one_that_stayed_behind_is_not_begun_once_more(other):
    generator = (n for n in [1, 2, 3])
    with pytest.raises(TypeError, match="cannot pickle a generator that has begun"):
        other.use(generator, "found = next(it)")
    with pytest.raises(TypeError, match="has begun in a worker process, and stayed behind there"):
        pack(generator)


def test_those_that_have_begun_are_not_sent():
    async def ticks():
        yield 1
        yield 2

    async def check():
        coroutine, begun = pause(), ticks()
        coroutine.send(None)
        await anext(begun)
        for one in (coroutine, begun):
            with pytest.raises(TypeError, match=f"cannot pickle a {type(one).__name__} that has begun"):
                pack(one)
        coroutine.close()
        await begun.aclose()

    with asyncio.Runner() as runner:
        runner.run(check())


def test_one_that_runs_is_not_sent():
    def generator():
        with pytest.raises(TypeError, match="that has begun"):
            pack(running)
        yield 1

    running = generator()
    assert list(running) == [1]


def test_a_trial_here_leaves_nothing_behind():
    with warnings.catch_warnings(action="error"):
        coroutine = pause()
        assert unpack(pack(coroutine)) is coroutine
        coroutine.close()
