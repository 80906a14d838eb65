"""Downloads from a server that is slow, drops connections and returns errors."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import sys
import threading
from collections.abc import Callable
from functools import partial

import pytest

from nbtasks import TaskCancelledError
from nbtasks.actions import download_file, reminder_timer
from nbtasks.actions.call_thread import CallThread, finish
from nbtasks.actions.download import Checksum, Part
from nbtasks.exceptions import ActionError, ChecksumError, InvalidValueError, MissingPackageError
from tests.http_server import Answer, serving

DATA = random.Random(7).randbytes(3_000_000)
SHA = "sha256:" + hashlib.sha256(DATA).hexdigest()
quick = partial(download_file, retry_delay=0.01)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.bin"


def left_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def wait_for(task, holds: Callable[[], object]) -> None:
    """Wait until something holds of a task that lives; asked for whenever its progress is told."""
    received = threading.Event()
    with task.internals.manager.add_event_callback(lambda *_: received.set(), ["progress"], task=task):
        for _ in range(600):
            if holds():
                return
            received.wait(0.1)
            received.clear()
    raise AssertionError(f"{task} never came so far: {task.body}")


def test_a_file_is_whole_and_nothing_else_is_left(outcome, target):
    with serving(data=DATA) as server:
        assert outcome(download_file, server.url, str(target)) == target
    assert target.read_bytes() == DATA
    assert left_in(target.parent) == ["file.bin"]
    assert server.requests[0]["accept-encoding"] == "identity"


def test_an_empty_file_is_a_file(outcome, target):
    with serving(data=b"") as server:
        outcome(download_file, server.url, target)
    assert target.read_bytes() == b""


def test_it_runs_on_the_loop_with_all_but_the_task_bound(start, target):
    with serving(data=DATA) as server:
        task = start(download_file, url=server.url, destination=target)
        task.wait(60)
    assert task.backend == "loop"
    assert target.read_bytes() == DATA


def test_progress_counts_the_bytes(start, outcome, target):
    hold = threading.Event()
    with serving(data=DATA, hold=hold, piece=len(DATA) // 2) as server:
        task = start(download_file, server.url, target)
        wait_for(task, lambda: (task.progress or 0) > 30)
        assert 30 < task.progress < 60
        assert "of 3.0 MB" in task.body
        assert not target.exists()
        hold.set()
        task.wait(60)
    outcome(reminder_timer, 0.3, "long enough for whatever would still tell how far it is")
    assert task.body.startswith("3.0 MB in ")


def test_where_the_server_does_not_say_how_much_there_is_the_progress_is_unknown(start, target):
    hold = threading.Event()
    with serving(data=DATA, hold=hold, tell_length=False) as server:
        task = start(download_file, server.url, target)
        wait_for(task, lambda: task.body)
        assert task.progress is None
        hold.set()
        task.wait(60)
    assert target.read_bytes() == DATA


def test_what_was_there_stays_until_the_new_file_is_whole(start, target):
    target.write_bytes(b"old")
    hold = threading.Event()
    with serving(data=DATA, hold=hold) as server:
        task = start(download_file, server.url, target)
        wait_for(task, lambda: task.body)
        assert target.read_bytes() == b"old"
        hold.set()
        task.wait(60)
    assert target.read_bytes() == DATA


def test_dropped_connections_are_taken_up_where_they_broke(outcome, target):
    with serving(data=DATA, drop_after=[1_000_000, 700_000, 1_000, 1_000, 1_000]) as server:
        outcome(quick, server.url, target, 1_000, checksum=SHA)
    assert target.read_bytes() == DATA
    requested = [request.get("range", "bytes=0-") for request in server.requests]
    assert requested == [f"bytes={start}-" for start in (0, 1_000_000, 1_700_000, 1_701_000, 1_702_000, 1_703_000)]


def test_without_an_etag_the_time_of_the_last_change_tells_the_version(outcome, target):
    changed = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    with serving(data=DATA, drop_after=[1_000_000], etag=None, extra=changed) as server:
        outcome(quick, server.url, target, 1_000)
    assert target.read_bytes() == DATA
    assert (server.requests[1]["range"], server.requests[1]["if-range"]) == ("bytes=1000000-", changed["Last-Modified"])


def test_a_download_is_resumed_until_it_is_complete(outcome, target):
    with serving(data=DATA, drop_after=[1_000_000], rest_at_most=500_000) as server:
        outcome(quick, server.url, target, 1_000)
        assert len(server.requests) == 5
    assert target.read_bytes() == DATA


def test_what_comes_packed_all_the_same_is_unpacked_and_never_gone_on_from(outcome, target):
    packed = gzip.compress(DATA[:1_000_000])
    with serving(data=packed, drop_after=[500_000], extra={"Content-Encoding": "gzip"}) as server:
        outcome(quick, server.url, target)
        assert [request.get("range") for request in server.requests] == [None, None]
    assert target.read_bytes() == DATA[:1_000_000]


@pytest.mark.parametrize(
    ("how", "requested"),
    [
        ({"ranges": False}, [None, "bytes=1000000-"]),
        ({"etag": None}, [None, None]),
        ({"etag": 'W/"1"'}, [None, None]),
        ({"wrong_range": True}, [None, "bytes=1000000-", None]),
    ],
)
def test_a_download_restarts_if_the_rest_is_missing_or_of_another_version(outcome, target, how, requested):
    with serving(data=DATA, drop_after=[1_000_000], **how) as server:
        outcome(quick, server.url, target, 1_000)
        assert [request.get("range") for request in server.requests] == requested
    assert target.read_bytes() == DATA


def test_a_file_that_changes_in_between_is_not_patched_together(outcome, target):
    with serving(data=DATA, drop_after=[1_000_000], etag='"1"') as server:
        other = DATA[::-1]
        served = server._answer

        async def answer(requested, writer):
            await served(requested, writer)
            server.data, server.etag = other, '"2"'

        server._answer = answer
        outcome(quick, server.url, target)
    assert target.read_bytes() == other


def test_a_server_that_drops_again_and_again_at_the_same_place_is_given_up(outcome, target):
    tried = pytest.raises(ActionError, match="could not be downloaded, tried 4 times")
    with serving(data=DATA, drop_after=[1000] * 9, ranges=False) as server, tried:
        outcome(quick, server.url, target)
    assert not target.exists()


def test_a_server_that_promises_more_than_it_sends_is_found_out(outcome, target):
    tried = pytest.raises(ActionError, match="could not be downloaded, tried 3 times")
    with serving(data=DATA, promise=len(DATA) + 10, ranges=False, etag=None) as server, tried:
        outcome(quick, server.url, target, retries=2)
    assert left_in(target.parent) == []


def test_a_server_that_promises_less_than_it_sends_is_found_out_by_the_checksum(outcome, target):
    with serving(data=DATA, promise=1_000_000) as server, pytest.raises(ChecksumError, match="nothing was kept"):
        outcome(quick, server.url, target, checksum=SHA)
    assert left_in(target.parent) == []


def test_a_checksum_that_differs_leaves_nothing_behind_and_what_was_there_alone(outcome, target):
    target.write_bytes(b"old")
    differs = pytest.raises(
        ChecksumError, match=f"the md5 of http://.* is {hashlib.md5(DATA).hexdigest()}, not {'0' * 32}"
    )
    with serving(data=DATA) as server, differs:
        outcome(download_file, server.url, target, checksum="md5:" + "0" * 32)
    assert target.read_bytes() == b"old"
    assert left_in(target.parent) == ["file.bin"]


@pytest.mark.parametrize("status", [403, 404, 410, 501])
def test_an_error_status_fails_at_once(outcome, target, status):
    with serving(data=DATA, statuses=[status]) as server:
        with pytest.raises(ActionError, match=f"{server.url}: {status} "):
            outcome(download_file, server.url, target)
        assert len(server.requests) == 1
    assert left_in(target.parent) == []


def test_a_request_to_an_overloaded_server_is_repeated(outcome, target):
    with serving(data=DATA, statuses=[503, 429, 500]) as server:
        outcome(quick, server.url, target)
        assert len(server.requests) == 4
    assert target.read_bytes() == DATA


def test_a_missing_server_fails_at_once(outcome, target):
    with serving() as server:
        url = server.url
    with pytest.raises(ActionError, match=f"{url} cannot be reached"):
        outcome(download_file, url, target)
    assert left_in(target.parent) == []


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(outcome, target):
    with serving(silent=True) as server, pytest.raises(ActionError, match="tried 2 times: ReadTimeout"):
        outcome(quick, server.url, target, timeout_seconds=0.05, retries=1)


def test_a_slow_server_takes_its_time(outcome, target):
    with serving(data=DATA[:40_000], piece=4_000, pause=0.02) as server:
        outcome(download_file, server.url, target, timeout_seconds=10)
    assert target.read_bytes() == DATA[:40_000]


def test_a_cancelled_download_is_resumed_by_a_later_call(start, outcome, target):
    hold = threading.Event()
    with serving(data=DATA, hold=hold, piece=1_200_000) as server:
        task = start(download_file, server.url, target)
        wait_for(task, lambda: (task.progress or 0) > 30)
        task.cancel()
        with pytest.raises(TaskCancelledError):
            task.wait(60)
        assert left_in(target.parent) == ["file.bin.part", "file.bin.part.json"]
        size = (target.parent / "file.bin.part").stat().st_size
        hold.set()
        outcome(download_file, server.url, target, checksum=SHA)
        assert server.requests[-1]["range"] == f"bytes={size}-"
    assert target.read_bytes() == DATA
    assert left_in(target.parent) == ["file.bin"]


@pytest.mark.parametrize(("etag", "resume"), [(None, True), ('"1"', False)])
def test_a_cancel_keeps_nothing_that_cannot_be_resumed(start, target, etag, resume):
    hold = threading.Event()
    with serving(data=DATA, hold=hold, etag=etag) as server:
        task = start(download_file, server.url, target, resume=resume)
        wait_for(task, lambda: task.body)
        task.cancel()
        with pytest.raises(TaskCancelledError):
            task.wait(60)
        hold.set()
    assert left_in(target.parent) == []


def test_a_part_of_another_address_is_not_gone_on_from(outcome, target):
    part, note = target.with_name("file.bin.part"), target.with_name("file.bin.part.json")
    lefts = ['{"url": "http://elsewhere/", "validator": "x"}', "no json", "[]", '{"url": 7}']
    for left in [*lefts, '{"url": "HERE", "validator": ""}', '{"url": "HERE", "validator": 7}']:
        part.write_bytes(b"something else")
        with serving(data=DATA) as server:
            note.write_text(left.replace("HERE", server.url))
            outcome(download_file, server.url, target)
            assert "range" not in server.requests[0]
        assert target.read_bytes() == DATA
        assert left_in(target.parent) == ["file.bin"]


def test_a_part_that_is_whole_already_is_taken(outcome, target):
    with serving(data=DATA) as server:
        target.with_name("file.bin.part").write_bytes(DATA)
        note = f'{{"url": "{server.url}", "validator": "\\"1\\""}}'
        target.with_name("file.bin.part.json").write_text(note)
        outcome(download_file, server.url, target, checksum=SHA)
        assert len(server.requests) == 1
    assert target.read_bytes() == DATA


def test_a_part_that_is_longer_than_the_file_is_dropped(outcome, target):
    with serving(data=DATA) as server:
        target.with_name("file.bin.part").write_bytes(DATA + b"more")
        note = f'{{"url": "{server.url}", "validator": "\\"1\\""}}'
        target.with_name("file.bin.part.json").write_text(note)
        outcome(quick, server.url, target)
    assert target.read_bytes() == DATA


def test_two_downloads_to_one_file_are_refused(start, outcome, target):
    hold = threading.Event()
    with serving(data=DATA, hold=hold) as server:
        first = start(download_file, server.url, target)
        wait_for(first, lambda: first.body)
        with pytest.raises(InvalidValueError, match="is already being downloaded"):
            outcome(download_file, server.url, target)
        hold.set()
        first.wait(60)
    assert target.read_bytes() == DATA


async def test_a_client_and_headers_of_ones_own_are_used_and_left_open(manager, target):
    import httpx

    async with httpx.AsyncClient(headers={"X-One": "1"}) as client:
        with serving(data=DATA) as server:
            work = partial(
                download_file, url=server.url, destination=target, client=client, headers={"Authorization": "Bearer x"}
            )
            await asyncio.wait_for(manager.create_task("mine", work), 60)
        assert (server.requests[0]["x-one"], server.requests[0]["authorization"]) == ("1", "Bearer x")
        assert not client.is_closed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"url": "ftp://host/file"}, "url must start with http:// or https://, not 'ftp://host/file'"),
        ({"url": 7}, "url must start with"),
        ({"destination": "/nowhere/at/all/x"}, "there is no folder '/nowhere/at/all' for the destination"),
        ({"destination": "."}, "is a folder: add the name of the file"),
        ({"destination": 7}, "destination must be the path of a file, not 7"),
        ({"chunk_size": 0}, "chunk_size must be a whole number from 1 on, not 0"),
        ({"retries": -1}, "retries must be a whole number from 0 on, not -1"),
        ({"retry_delay": -1}, "retry_delay must be a number of seconds, 0 or more, or a timedelta, not -1"),
        ({"timeout_seconds": 0}, "timeout_seconds must be a number of seconds, more than 0, or a timedelta, not 0"),
        ({"checksum": "abc"}, "a checksum must be like \"sha256:...\", not 'abc'"),
        ({"checksum": "sha256:abc"}, "a sha256 checksum has 64 hexadecimal digits, not 'abc'"),
    ],
)
def test_wrong_arguments_are_refused_before_any_request(outcome, target, wrong, message):
    with serving(data=DATA) as server:
        given = {"url": server.url, "destination": target, **wrong}
        with pytest.raises(InvalidValueError) as error:
            outcome(download_file, **given)
        assert message in str(error.value)
        assert server.requests == []
    assert left_in(target.parent) == []


def test_a_check_that_is_still_running_when_its_download_is_over_touches_nothing(target):
    part = Part(target, "http://127.0.0.1/", resume=True)
    part.begin('"1"', None)
    part.write([b"some", b"thing"])
    part.close()
    part.check(Checksum.parse("sha256:" + "0" * 64))
    assert target.with_name("file.bin.part").read_bytes() == b"something"


async def test_a_call_aside_that_was_begun_is_waited_for_before_a_cancel_takes_effect():
    go = threading.Event()
    with CallThread() as aside:
        call = aside.call(go.wait, 30)
        waiting = asyncio.ensure_future(finish(call))
        await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert call.result() is True


def test_without_httpx_it_says_what_to_install(outcome, target, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(
        MissingPackageError, match=r"download_file needs httpx: pip install httpx, or '\.\[actions\]' in a clone"
    ):
        outcome(download_file, "http://127.0.0.1:1/", target)


# -- answers that do not fit ---------------------------------------------------------------------------------------

HAVE, ALL = 1_000, DATA[:3_000]
WHOLE = "sha256:" + hashlib.sha256(ALL).hexdigest()
small = partial(quick, chunk_size=500)
ETAG = {"ETag": '"1"'}
DATED = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}


def content_range(first: int, last: int, total: int | str = len(ALL)) -> dict[str, str]:
    return {"Content-Range": f"bytes {first}-{last}/{total}"}


def cut(**more: str) -> Answer:
    """The first answer: it breaks off after the first bytes."""
    return Answer(200, {**ETAG, **more}, ALL[:HAVE], promise=len(ALL))


REST = ALL[HAVE:]
LAST = len(ALL) - 1
MISFITS = {
    "200 with the rest": Answer(200, ETAG, REST),
    "200 with the rest and no tag": Answer(200, {}, REST),
    "200 with the rest and a tag of its own": Answer(200, {"ETag": '"2"'}, REST),
    "200 with the rest in chunks": Answer(200, ETAG, REST, chunked=True),
    "200 with the rest until it closes": Answer(200, ETAG, REST, promise=-1),
    "200 with the rest and its range": Answer(200, {**ETAG, **content_range(HAVE, LAST)}, REST),
    "206 of another tag": Answer(206, {"ETag": '"2"', **content_range(HAVE, LAST)}, b"x" * len(REST)),
    "206 of another total": Answer(206, {**ETAG, **content_range(HAVE, 3_999, 4_000)}, b"x" * 3_000),
    "206 from elsewhere": Answer(206, {**ETAG, **content_range(0, LAST)}, ALL),
    "206 from a later byte": Answer(206, {**ETAG, **content_range(HAVE + 1, LAST)}, REST[1:]),
    "206 with more than its range": Answer(206, {**ETAG, **content_range(HAVE, LAST)}, REST + b"more"),
    "206 with more than its range, in chunks": Answer(
        206, {**ETAG, **content_range(HAVE, LAST)}, REST + b"more", chunked=True
    ),
    "206 with a length that is not its range": Answer(206, {**ETAG, **content_range(HAVE, LAST)}, REST[:-1]),
    "206 without a range": Answer(206, ETAG, REST),
    "206 in a unit of its own": Answer(206, {**ETAG, "Content-Range": "lines 1-2/3"}, REST),
    "206 in several parts": Answer(206, {**ETAG, "Content-Type": "multipart/byteranges; boundary=x"}, REST),
    "206 that ends before it begins": Answer(206, {**ETAG, **content_range(HAVE, HAVE - 1)}, b""),
    "206 beyond its own total": Answer(206, {**ETAG, **content_range(HAVE, LAST + 1)}, REST + b"x"),
    "206 beyond the total, which it does not give": Answer(
        206, {**ETAG, **content_range(HAVE, 3_999, "*")}, b"x" * 3_000
    ),
    "206, packed": Answer(206, {**ETAG, **content_range(HAVE, LAST), "Content-Encoding": "gzip"}, REST),
    "416 with the file's length": Answer(416, {"Content-Range": f"bytes */{len(ALL)}"}),
    "416 as if what is there were all": Answer(416, {"Content-Range": f"bytes */{HAVE}"}),
    "416 and no more": Answer(416, {}),
}

UNSEEN = ("200 with the rest and a tag of its own", "206 of another total", "416 as if what is there were all")
"""They fit a part of which only the tag is known."""


@pytest.mark.parametrize("answer", MISFITS.values(), ids=MISFITS.keys())
def test_an_answer_that_does_not_fit_starts_the_download_over(outcome, target, answer) -> None:
    with serving(data=ALL, answers=[cut(), answer]) as server:
        outcome(small, server.url, target)
        assert [request.get("range") for request in server.requests] == [None, f"bytes={HAVE}-", None]
    assert target.read_bytes() == ALL
    assert left_in(target.parent) == ["file.bin"]


@pytest.mark.parametrize("answer", MISFITS.values(), ids=MISFITS.keys())
def test_a_part_of_an_earlier_call_is_never_mixed_with_an_answer_that_does_not_fit(outcome, target, answer) -> None:
    """An older version wrote that part and did not note the total; the hash shows what is mixed."""
    name = next(name for name, one in MISFITS.items() if one is answer)
    with serving(data=ALL, answers=[answer]) as server:
        target.with_name("file.bin.part").write_bytes(ALL[:HAVE])
        note = f'{{"url": "{server.url}", "validator": "\\"1\\""}}'
        target.with_name("file.bin.part.json").write_text(note)
        if name in UNSEEN:
            with pytest.raises(ChecksumError):
                outcome(small, server.url, target, checksum=WHOLE)
            assert not target.exists()
        else:
            outcome(small, server.url, target, checksum=WHOLE)
            assert target.read_bytes() == ALL


def test_a_206_of_another_time_does_not_fit(outcome, target) -> None:
    other = {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT", **content_range(HAVE, LAST)}
    first = Answer(200, DATED, ALL[:HAVE], promise=len(ALL))
    with serving(data=ALL, answers=[first, Answer(206, other, b"x" * len(REST))], etag=None) as server:
        outcome(small, server.url, target)
        assert len(server.requests) == 3
    assert target.read_bytes() == ALL


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        (Answer(206, {**ETAG, **content_range(0, LAST)}, ALL), "was asked for all of it"),
        (Answer(200, {**ETAG, **content_range(HAVE, LAST)}, REST), "as if that were the whole file"),
    ],
)
def test_what_does_not_fit_once_more_fails_with_both_reasons(outcome, target, again, reason) -> None:
    with serving(data=ALL, answers=[cut(), MISFITS["200 with the rest"], again]) as server:
        with pytest.raises(ActionError, match=f"{reason}.*started over before.*2000 bytes as the whole file"):
            outcome(small, server.url, target)
        assert len(server.requests) == 3
    assert left_in(target.parent) == []


def test_after_a_misfit_no_part_is_asked_for_again(outcome, target) -> None:
    with serving(data=ALL, answers=[cut(), MISFITS["206 of another tag"], cut()]) as server:
        outcome(small, server.url, target)
        assert [request.get("range") for request in server.requests] == [None, f"bytes={HAVE}-", None, None]
    assert target.read_bytes() == ALL


FITTING = {
    "206 with the rest": (Answer(206, {**ETAG, **content_range(HAVE, LAST)}, REST), 2),
    "206 with the rest, in chunks": (Answer(206, {**ETAG, **content_range(HAVE, LAST)}, REST, chunked=True), 2),
    "206 without a tag": (Answer(206, content_range(HAVE, LAST), REST), 2),
    "206 of a total that it does not give": (Answer(206, {**ETAG, **content_range(HAVE, LAST, "*")}, REST), 2),
    "a short 206": (Answer(206, {**ETAG, **content_range(HAVE, 1_999)}, ALL[HAVE:2_000]), 3),
    "a short 206 that gives no total": (Answer(206, {**ETAG, **content_range(HAVE, 1_999, "*")}, ALL[HAVE:2_000]), 3),
    "a 206 that breaks off": (
        Answer(206, {**ETAG, **content_range(HAVE, LAST)}, ALL[HAVE:2_000], promise=len(REST)),
        3,
    ),
    "200 with all": (Answer(200, ETAG, ALL), 2),
    "200 of a new version": (Answer(200, {"ETag": '"2"'}, ALL), 2),
    "503": (Answer(503, {}, b"busy"), 3),
    "a redirect": (Answer(302, {"Location": "/elsewhere"}), 3),
    "no answer at all": (Answer(200, ETAG, b"", promise=len(ALL)), 3),
}


@pytest.mark.parametrize(("answer", "requests"), FITTING.values(), ids=FITTING.keys())
def test_an_answer_that_fits_is_taken(outcome, target, answer, requests) -> None:
    with serving(data=ALL, answers=[cut(), answer]) as server:
        outcome(small, server.url, target)
        assert len(server.requests) == requests
    assert target.read_bytes() == ALL


def test_a_redirect_in_the_middle_to_another_version_starts_over(outcome, target) -> None:
    moved = Answer(302, {"Location": "/mirror"})
    mixed = Answer(206, {"ETag": '"mirror"', **content_range(HAVE, LAST)}, b"x" * len(REST))
    with serving(data=ALL, answers=[cut(), moved, mixed]) as server:
        outcome(small, server.url, target)
        assert server.requests[2][":request"].startswith("GET /mirror")
        assert server.requests[2]["range"] == f"bytes={HAVE}-"
    assert target.read_bytes() == ALL


@pytest.mark.parametrize("size", [0, 1, 3_000])
@pytest.mark.parametrize("form", [{}, {"promise": -1}, {"chunked": True}])
def test_sizes_known_and_unknown(outcome, target, size, form) -> None:
    with serving(answers=[Answer(200, ETAG, ALL[:size], **form)]) as server:
        outcome(small, server.url, target)
        assert len(server.requests) == 1
    assert target.read_bytes() == ALL[:size]


def test_a_file_of_unknown_size_that_breaks_off_is_resumed_until_the_server_has_no_more(outcome, target) -> None:
    broken = Answer(200, ETAG, ALL[:HAVE], chunked=True)
    broken.content = lambda: f"{len(ALL):x}\r\n".encode() + ALL[:HAVE]
    rest = Answer(206, {**ETAG, **content_range(HAVE, LAST, "*")}, REST)
    with serving(data=ALL, answers=[broken, rest]) as server:
        outcome(small, server.url, target)
        assert server.requests[-1]["range"] == f"bytes={len(ALL)}-"
    assert target.read_bytes() == ALL


class Zeros:
    """A file of zeros that takes no memory."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        return bytes(len(range(*part.indices(self._size))))


def test_a_file_of_more_than_two_gibibytes_is_resumed_at_its_end(outcome, target) -> None:
    size = 2**32 + 5
    with serving(data=Zeros(size)) as server:
        with target.with_name("file.bin.part").open("wb") as part:
            part.truncate(size - 100_000)  # sparse: it takes no space on the disk
        note = f'{{"url": "{server.url}", "validator": "\\"1\\"", "total": {size}}}'
        target.with_name("file.bin.part.json").write_text(note)
        outcome(download_file, server.url, target)
        assert server.requests[0]["range"] == f"bytes={size - 100_000}-"
        assert len(server.requests) == 1
    assert target.stat().st_size == size


def test_packed_content_whose_end_is_not_known_is_refused(outcome, target) -> None:
    packed = gzip.compress(ALL)[:-100]
    answers = [Answer(200, {"Content-Encoding": "gzip"}, packed, promise=-1) for _ in range(2)]
    with serving(answers=answers) as server, pytest.raises(ActionError, match="does not say where it ends"):
        outcome(small, server.url, target)
    assert left_in(target.parent) == []


def test_a_part_that_something_else_changes_on_the_disk_is_not_taken_for_the_file(start, target) -> None:
    hold = threading.Event()
    with serving(data=DATA, hold=hold, piece=2_000_000) as server:
        task = start(small, server.url, target)
        part = target.with_name("file.bin.part")
        wait_for(task, lambda: part.exists() and part.stat().st_size > 0)
        part.unlink()
        hold.set()
        with pytest.raises(ActionError, match=r"file\.bin\.part' has 0 bytes, not the 3000000 that were written"):
            task.wait(60)
    assert not target.exists()


def test_more_retries_than_a_delay_can_double(outcome, target) -> None:
    with serving(statuses=[503] * 2_000) as server:
        with pytest.raises(ActionError, match="tried 1101 times: 503"):
            outcome(download_file, server.url, target, retries=1_100, retry_delay=0)
        assert len(server.requests) == 1_101
