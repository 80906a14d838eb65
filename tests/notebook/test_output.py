"""`Output` and `Publisher`: kept outputs, published in order in few messages."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nbtasks.notebook.output import kept_output
from nbtasks.notebook.output.output import Output
from nbtasks.notebook.output.publisher import Publisher

Sent = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def output(sent: Sent) -> Output:
    return Output(lambda kind, content: sent.append((kind, content)))


def test_consecutive_text_of_one_stream_is_one_message(output: Output, sent: Sent) -> None:
    for word in ("a", "b", "c\n"):
        output.write("stdout", word)
    assert output.publish() == 1
    assert sent == [("stream", {"name": "stdout", "text": "abc\n"})]


def test_streams_displays_and_results_keep_their_order(output: Output, sent: Sent) -> None:
    output.write("stdout", "1")
    output.write("stderr", "2")
    output.display({"text/plain": "3"}, {}, {})
    output.write("stdout", "4")
    output.result({"text/plain": "5"}, {}, 7)
    output.error("ValueError", "6", ["trace"])
    output.publish()
    assert [kind for kind, _ in sent] == [
        "stream",
        "stream",
        "display_data",
        "stream",
        "execute_result",
        "error",
    ]
    assert [o["output_type"] for o in output.outputs] == [kind for kind, _ in sent]
    assert output.text == "1" + "2" + "3\n" + "4" + "5\n" + "trace\n"


def test_text_of_one_stream_is_one_output_though_published_in_pieces(output: Output) -> None:
    for word in ("a", "b"):
        output.write("stdout", word)
        output.publish()
    assert output.outputs == [{"output_type": "stream", "name": "stdout", "text": "ab"}]


def test_an_update_replaces_the_display_with_the_same_id(output: Output, sent: Sent) -> None:
    output.display({"text/plain": "old"}, {}, {"display_id": "d"})
    output.display({"text/plain": "other"}, {}, {"display_id": "e"})
    output.display({"text/plain": "new"}, {}, {"display_id": "d"}, update=True)
    output.publish()
    assert [kind for kind, _ in sent] == ["display_data", "display_data", "update_display_data"]
    assert [o["data"]["text/plain"] for o in output.outputs] == ["new", "other"]


def test_text_that_was_cleared_before_it_was_published_is_not_sent(output: Output, sent: Sent) -> None:
    output.write("stdout", "gone")
    output.clear()
    output.write("stdout", "stays")
    output.publish()
    assert sent == [("clear_output", {"wait": True}), ("stream", {"name": "stdout", "text": "stays"})]
    assert output.text == "stays"


def test_clear_with_wait_clears_when_the_next_output_is_written(output: Output, sent: Sent) -> None:
    output.write("stdout", "frame 1")
    output.publish()
    output.clear(wait=True)
    assert output.publish() == 0 and output.text == "frame 1" and not output.pending
    output.write("stdout", "frame 2")
    assert output.text == "frame 2"
    output.publish()
    assert sent[1:] == [("clear_output", {"wait": True}), ("stream", {"name": "stdout", "text": "frame 2"})]


def test_clear_with_wait_and_no_output_after_it_clears_nothing(output: Output, sent: Sent) -> None:
    output.write("stdout", "stays")
    output.clear(wait=True)
    output.publish(final=True)
    assert sent == [("stream", {"name": "stdout", "text": "stays"})] and output.text == "stays"


def test_a_clear_and_the_header_are_sent_together(output: Output, sent: Sent) -> None:
    output.header = lambda: ("display_data", {"data": {"text/plain": "panel"}})
    output.write("stdout", "gone")
    output.publish()
    output.clear()
    output.publish()
    assert [kind for kind, _ in sent] == ["stream", "clear_output", "display_data"]
    assert sent[1] == ("clear_output", {"wait": True})


def animate(output: Output, frames: int) -> None:
    for frame in range(frames):
        output.clear(wait=True)
        output.write("stdout", f"frame {frame}\n")
        output.display({"text/plain": f"picture {frame}"}, {}, {})
        output.publish(now=True)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_frames_of_an_animation_leave_the_panel_alone(output: Output, sent: Sent, in_place: bool) -> None:
    panel = ("display_data", {"data": {"text/plain": "panel"}})
    output.header = lambda: panel
    animate(output, 2)
    assert [kind for kind, _ in sent].count("clear_output") == 2
    sent.clear()
    animate(output, 20)
    assert [kind for kind, _ in sent] == ["update_display_data"] * 40
    assert sent[-1][1]["data"] == {"text/plain": "picture 19"}
    sent.clear()
    output.publish(final=True, in_place=in_place)
    picture = {"data": {"text/plain": "picture 19"}, "metadata": {}, "transient": {}}
    text = ("stream", {"name": "stdout", "text": "frame 19\n"})
    assert sent == ([] if in_place else [("clear_output", {"wait": True}), panel, text, ("display_data", picture)])


def test_an_animation_that_ends_with_a_clear_is_shown_as_in_the_foreground_too(output: Output, sent: Sent) -> None:
    output.header = lambda: ("display_data", {"data": {"text/plain": "panel"}})
    animate(output, 3)
    output.clear(wait=True)
    sent.clear()
    output.publish(final=True)
    assert [kind for kind, _ in sent] == ["clear_output", "display_data", "stream", "display_data"]
    assert sent[2][1]["text"] == "frame 2\n"


def test_a_shorter_frame_leaves_nothing_of_the_one_before(output: Output, sent: Sent) -> None:
    output.header = lambda: ("display_data", {"data": {"text/plain": "panel"}})
    animate(output, 3)
    output.clear(wait=True)
    output.write("stdout", "the last")
    output.publish(now=True)
    shown = {
        content["transient"]["display_id"]: content["data"]["text/plain"]
        for _, content in sent
        if content.get("transient")
    }
    assert list(shown.values()) == ["the last", ""]


def test_an_animation_updates_displays_of_other_cells(output: Output, sent: Sent) -> None:
    output.header = lambda: ("display_data", {"data": {"text/plain": "panel"}})
    animate(output, 3)
    sent.clear()
    output.display({"text/plain": "new"}, {}, {"display_id": "elsewhere"}, update=True)
    output.publish()
    assert [(kind, content["transient"]["display_id"]) for kind, content in sent] == [
        ("update_display_data", "elsewhere")
    ]


def test_the_panel_of_an_animation_that_the_user_has_cleared_comes_back_with_the_frame(
    output: Output, sent: Sent
) -> None:
    panel = ("display_data", {"data": {"text/plain": "panel"}})
    cleared = [True]
    output.header = lambda: panel
    animate(output, 3)
    sent.clear()
    output.header_if_cleared = lambda: panel if cleared and cleared.pop() else None
    animate(output, 2)
    assert sent[0] == panel
    assert [kind for kind, _ in sent[1:]] == ["display_data"] * 2 + ["update_display_data"] * 2


def test_a_following_cell_gets_all_output_and_its_own_header(output: Output, sent: Sent) -> None:
    output.write("stdout", "published")
    output.publish()
    output.write("stdout", ", waiting")
    following: Sent = []
    output.follow("there", lambda kind, content: following.append((kind, content)), lambda: ("display_data", {}))
    assert "".join(content["text"] for _, content in sent) == "published, waiting"
    assert following == [("stream", {"name": "stdout", "text": "published, waiting"})]
    output.display({"text/plain": "next"}, {}, {"display_id": "one"})
    output.publish()
    assert following[1:] == sent[2:]
    output.clear()
    output.publish()
    assert [kind for kind, _ in following[2:]] == ["clear_output", "display_data"] and len(sent) == 4


def test_a_cell_that_follows_twice_gets_new_output_once(output: Output) -> None:
    first: Sent = []
    again: Sent = []
    for following in (first, again):
        output.follow("there", lambda kind, content, to=following: to.append((kind, content)), lambda: None)
    output.write("stdout", "once")
    output.publish()
    assert first == [] and len(again) == 1


def test_a_display_is_also_updated_in_a_following_cell(output: Output) -> None:
    output.display({"text/plain": "old"}, {}, {"display_id": "one"})
    following: Sent = []
    output.follow("there", lambda kind, content: following.append((kind, content)), lambda: None)
    output.display({"text/plain": "new"}, {}, {"display_id": "one"}, update=True)
    output.publish()
    assert [content["transient"] for _, content in following] == [{"display_id": "one"}] * 2


def test_clears_in_quick_succession_are_delayed(output: Output, sent: Sent) -> None:
    for frame in range(5):
        output.clear(wait=True)
        output.write("stdout", f"frame {frame}")
        output.publish()
    assert [content for kind, content in sent if kind == "stream"] == [{"name": "stdout", "text": "frame 0"}]
    output.publish(final=True)
    assert sent[-1] == ("stream", {"name": "stdout", "text": "frame 4"})
    assert sum(kind == "clear_output" for kind, _ in sent) == 2


def test_of_very_long_text_the_first_and_last_lines_are_sent(output: Output, sent: Sent) -> None:
    for line in range(5_000):
        output.write("stdout", f"line {line}\n")
        if line % 100 == 0:
            output.publish()
    output.publish(final=True)
    lines = "".join(content["text"] for _, content in sent).splitlines()
    assert lines[:1_000] == [f"line {n}" for n in range(1_000)]
    assert lines[-100:] == [f"line {n}" for n in range(4_900, 5_000)]
    assert lines[1_000:-100] == ["[... 3,900 lines left out; task.output has them ...]"]
    assert output.text.splitlines() == [f"line {n}" for n in range(5_000)]


def test_the_end_of_a_very_long_line_is_sent_when_the_task_finishes(output: Output, sent: Sent) -> None:
    output.write("stdout", "x" * (kept_output.HEAD_CHARACTERS + 10))
    assert output.publish() == 0
    output.publish(final=True)
    assert len(sent[0][1]["text"]) <= kept_output.HEAD_CHARACTERS + 100


def test_text_of_exactly_the_limit_is_sent_whole(output: Output, sent: Sent) -> None:
    for line in range(kept_output.HEAD_LINES):
        output.write("stdout", f"{line}\n")
    output.publish(final=True)
    assert "".join(content["text"] for _, content in sent) == output.text


def test_beyond_the_limit_the_oldest_text_is_dropped(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_output, "KEPT_CHARACTERS", 1_000)
    for line in range(300):
        output.write("stdout", f"{line:09}\n")
        output.publish()
    assert output.dropped_characters == 2_000
    assert output.text.startswith("[... 2,000 characters dropped ...]\n000000200\n")
    assert output.text.endswith("000000299\n")


def test_search_returns_matching_lines(output: Output) -> None:
    output.write("stdout", "loss 0.5\nepoch 2\nloss 0.25\n")
    assert output.search(r"loss 0\.\d+") == ["loss 0.5", "loss 0.25"]


def test_held_output_is_published_after_another_message(output: Output, sent: Sent) -> None:
    output.write("stdout", "after")
    with output.held():
        publishing = threading.Thread(target=output.publish)
        publishing.start()
        sent.append(("display_data", {"data": {}}))
    publishing.join()
    assert [kind for kind, _ in sent] == ["display_data", "stream"]


def test_the_publisher_sends_the_text_of_many_threads_in_order_and_once() -> None:
    done = threading.Condition()
    received: dict[int, str] = {}

    def send(worker: int) -> Any:
        def to_cell(kind: str, content: dict[str, Any]) -> None:
            with done:
                received[worker] = received.get(worker, "") + content["text"]
                done.notify()

        return to_cell

    publisher = Publisher()
    outputs = [Output(send(worker), publisher) for worker in range(8)]

    def write(output: Output) -> None:
        for line in range(500):
            output.write("stdout", f"{line}\n")

    threads = [threading.Thread(target=write, args=(output,)) for output in outputs]
    for thread in threads:
        thread.start()
    expected = "".join(f"{line}\n" for line in range(500))
    with done:
        assert done.wait_for(lambda: [received.get(w) for w in range(8)] == [expected] * 8, timeout=30)
    publisher.close()


def test_closing_the_publisher_sends_pending_output(sent: Sent) -> None:
    publisher = Publisher()
    output = Output(lambda kind, content: sent.append((kind, content)), publisher)
    output.write("stdout", "last words")
    publisher.close()
    assert sent == [("stream", {"name": "stdout", "text": "last words"})]
