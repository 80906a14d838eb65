"""What a background cell wrote: kept in the kernel, and published to the launching cell a few times a second.

Knows nothing of IPython or of where writes come from (`routing.py`), nor of the kernel: it is handed a `send` function.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbtasks.notebook.output.kept_output import HEAD_CHARACTERS, HEAD_LINES, Kept, first_lines, last_lines, left_out
from nbtasks.notebook.output.publisher import Publisher

__all__ = ["Output"]

Message = tuple[str, dict[str, Any]]
"""A message type of the Jupyter protocol and its content."""
Send = Callable[[str, dict[str, Any]], None]

CLEAR_SECONDS = 0.25
PANEL_LINES = 5


class Output:
    """The output of one task, in order: text, displays, results, errors.

    It is kept up to 20 million characters, the oldest dropped first (`dropped_characters` tells how many), and can be
    read as text (`text`, `str()`), as notebook outputs (`outputs`), searched, and displayed again anywhere.

    `_lock` guards what is kept and what waits to be published; `_publishing` keeps the published messages in order.
    Any thread may call any method.
    """

    def __init__(self, send: Send | None = None, publisher: Publisher | None = None) -> None:
        self.header: Callable[[], Message | None] | None = None
        """Gives the message that stays at the top of the cell when the task clears its output: its panel."""
        self.on_publish: Callable[[], None] | None = None
        self.stdout: Callable[[str], int] = functools.partial(self.write, "stdout")
        self.stderr: Callable[[str], int] = functools.partial(self.write, "stderr")
        self.shows_pages = True
        """Whether what goes to the pager (`x?`) is shown with the output."""
        self._send = send
        self._followers: dict[str, tuple[Send, Callable[[], Message | None]]] = {}
        self._publisher = publisher
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._kept = Kept()
        self._open_stream = ""
        self._open: list[str] = []
        self._outbox: list[Message] = []
        self._dirty = False
        self._head = _Head()
        self._cleared_at = float("-inf")

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, stream: str, text: str) -> int:
        """Add text to `stream`, "stdout" or "stderr"; returns the number of characters, as files do."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        with self._lock:
            if stream != self._open_stream:
                self._close_stream()
                self._open_stream = stream
            self._open.append(text)
        if not self._dirty:
            self._changed()
        return len(text)

    def display(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any],
        transient: dict[str, Any],
        *,
        update: bool = False,
    ) -> None:
        """Add a mime bundle, or with `update` put it in the place of those with the same display id."""
        content = {"data": data, "metadata": metadata, "transient": transient}
        with self._lock:
            self._close_stream()
            if update:
                self._kept.update(content)
            else:
                self._kept.add({"output_type": "display_data", **content})
            self._outbox.append(("update_display_data" if update else "display_data", content))
        self._changed()

    def result(self, data: dict[str, Any], metadata: dict[str, Any], execution_count: int | None) -> None:
        """Add the value of the cell's last expression, as a mime bundle."""
        content = {"data": data, "metadata": metadata, "execution_count": execution_count}
        self._add("execute_result", content)

    def error(self, ename: str, evalue: str, traceback: list[str]) -> None:
        """Add an error with its formatted traceback."""
        self._add("error", {"ename": ename, "evalue": evalue, "traceback": traceback})

    def take(self, messages: Iterable[Iterable[Any]]) -> None:
        """Add streams and errors as messages have them: pairs of a type and a content."""
        for kind, content in messages:
            if kind == "stream":
                self.write(content["name"], content["text"])
            else:
                self.error(content["ename"], content["evalue"], content["traceback"])

    def flush(self) -> None:
        """Nothing: what is written is published in order by one thread, within moments."""

    def sync(self) -> None:
        """Publish what was written, now: what follows is sent to the front end by another way."""
        self.publish(now=True)

    def clear(self, *, wait: bool = False) -> None:
        """Clear what the task wrote; with `wait` only when something new comes."""
        with self._lock:
            self._close_stream()
            if wait:  # what is there stays for as long as nothing follows
                self._outbox.append(("clear_output", {"wait": True}))
            else:
                self._outbox = [("clear_output", {"wait": False})]
            self._kept.clear(wait=wait)
        self._changed()

    def page(self, data: dict[str, Any]) -> None:
        """Take what the foreground would show in the pager, which has no place for it later."""
        if self.shows_pages:
            self.display(data, {}, {})

    def _add(self, kind: str, content: dict[str, Any]) -> None:
        with self._lock:
            self._close_stream()
            self._kept.add({"output_type": kind, **content})
            self._outbox.append((kind, content))
        self._changed()

    def _changed(self) -> None:
        self._dirty = True
        if self._publisher is not None:
            self._publisher.changed(self)

    def _close_stream(self) -> None:
        """Under the lock: turn the text written so far to the open stream into one piece."""
        if not self._open:
            return
        name, text = self._open_stream, "".join(self._open)
        self._open = []
        self._outbox.append(("stream", {"name": name, "text": text}))
        self._kept.add_text(name, text)

    # -- reading -----------------------------------------------------------------------------------------------

    @property
    def dropped_characters(self) -> int:
        """How much of what was written is not kept."""
        return self._kept.dropped

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The kept outputs as a notebook holds them (nbformat 4)."""
        with self._lock:
            self._close_stream()
            return self._kept.outputs()

    @property
    def excerpt(self) -> list[dict[str, Any]]:
        """The same, but of a flood its first and last lines, and of very much output the newest."""
        with self._lock:
            self._close_stream()
            return self._kept.excerpt()

    @property
    def text(self) -> str:
        """The kept output as plain text; where a bundle has no `text/plain`, its mime types are named."""
        with self._lock:
            self._close_stream()
            return self._kept.text()

    def ending(self, characters: int) -> str:
        """The end of `text`, so many characters or fewer."""
        with self._lock:
            self._close_stream()
            return self._kept.ending(characters)

    @property
    def tail(self) -> str:
        """The last lines of a flood that the cell does not show while it lasts; else nothing."""
        with self._lock:
            return self._head.tail(PANEL_LINES)

    def search(self, pattern: str) -> list[str]:
        """The lines of `text` in which the regular expression `pattern` is found."""
        compiled = re.compile(pattern)
        return [line for line in self.text.splitlines() if compiled.search(line)]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Output of {len(self.outputs)} parts, {self._kept.size:,} characters>"

    def _ipython_display_(self) -> None:
        """Show all of it again in the cell that displays it."""
        from IPython.display import publish_display_data

        for output in self.outputs:
            if output["output_type"] == "stream":
                print(output["text"], end="", file=getattr(sys, output["name"]))
            elif output["output_type"] == "error":
                print("\n".join(output["traceback"]))
            else:
                publish_display_data(output["data"], output["metadata"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __bool__(self) -> bool:
        return True

    # -- publishing --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Publish nothing meanwhile: what comes first in the cell is being put there."""
        with self._publishing:
            yield

    def follow(self, place: str, send: Send, header: Callable[[], Message | None]) -> None:
        """Show all of it in another cell, too, and there whatever follows; `place` names that cell.

        One that followed there before follows no more. Of a flood it shows what `excerpt` has.
        """
        with self._publishing:
            with self._lock:
                self._close_stream()
                outbox, self._outbox = _without_what_is_cleared(self._outbox)
                already = self._kept.messages()
            self._followers.pop(place, None)
            self._send_to_all(list(self._messages(outbox)))
            for kind, content in already:
                send(kind, content)
            self._followers[place] = send, header

    def publish(self, *, now: bool = False, final: bool = False) -> int:
        """Send what waits; returns the number of messages sent.

        A clear that follows the last one too quickly waits, but for `now`; `final` also sends the tail of a flood.
        """
        with self._publishing:
            with self._lock:
                self._dirty = False
                self._close_stream()
                if self._must_wait(at_all=not (now or final)):
                    return 0
                outbox, self._outbox = _without_what_is_cleared(self._outbox)
            messages = list(self._messages(outbox))
            if final:
                messages += self._head.rest()
            self._send_to_all(messages)
        if messages and self.on_publish is not None:
            self.on_publish()
        return len(messages) * (1 + len(self._followers))

    @property
    def pending(self) -> bool:
        """Whether something waits to be published that `publish` would send by now or soon."""
        return bool(self._open or (self._outbox and not self._holds_back()))

    def _holds_back(self) -> bool:
        """A `clear_output(wait=True)` with nothing after it yet."""
        return len(self._outbox) == 1 and self._outbox[0] == ("clear_output", {"wait": True})

    def _must_wait(self, *, at_all: bool) -> bool:
        if self._holds_back():
            return True
        clears = any(kind == "clear_output" for kind, _ in self._outbox)
        return at_all and clears and time.monotonic() - self._cleared_at < CLEAR_SECONDS

    def _messages(self, outbox: list[Message]) -> Iterator[Message]:
        for kind, content in outbox:
            if kind == "clear_output":
                self._cleared_at = time.monotonic()
                self._head = _Head()
                yield kind, {"wait": len(outbox) > 1}
            elif kind == "stream":
                yield from self._head.admit(content["name"], content["text"])
            else:
                yield kind, content

    def _send_to_all(self, messages: list[Message]) -> None:
        if self._send is not None:
            _send_to(self._send, self.header, messages)
        for send, header in self._followers.values():
            _send_to(send, header, messages)


def _send_to(send: Send, header: Callable[[], Message | None] | None, messages: list[Message]) -> None:
    """Send the messages to a cell. Clear, panel and new content go out in one burst: the panel never flickers."""
    for kind, content in messages:
        top = header() if kind == "clear_output" and header is not None else None
        if top is None:
            send(kind, content)
        else:
            send(kind, {"wait": True})
            send(*top)


def _without_what_is_cleared(outbox: list[Message]) -> tuple[list[Message], list[Message]]:
    """What of the messages is to be sent, and what is to wait: a last clear that nothing follows yet."""
    waiting: list[Message] = []
    if outbox and outbox[-1] == ("clear_output", {"wait": True}):
        waiting.append(outbox.pop())
    clears = [index for index, (kind, _) in enumerate(outbox) if kind == "clear_output"]
    return outbox[clears[-1] if clears else 0 :], waiting


class _Head:
    """Lets the first lines of what is written through, and keeps the last ones and the number between."""

    def __init__(self) -> None:
        self._lines_left = HEAD_LINES
        self._characters_left = HEAD_CHARACTERS
        self._name = "stdout"
        self._tail = ""
        self._lines_held = 0
        self._full = False

    def admit(self, name: str, text: str) -> Iterator[Message]:
        """What of `text` goes to the cell now."""
        cut = 0 if self._full else first_lines(text, self._lines_left, self._characters_left)
        if cut:
            self._lines_left -= text.count("\n", 0, cut)
            self._characters_left -= cut
            yield "stream", {"name": name, "text": text[:cut]}
        if cut < len(text):
            self._full = True
            self._lines_held += text.count("\n", cut)
            self._name = name
            self._tail = last_lines(self._tail + text[cut:])

    def tail(self, lines: int) -> str:
        """The last lines of what was held back."""
        return last_lines(self._tail, lines)

    def rest(self) -> list[Message]:
        """The last lines, said with the number of those left out before them."""
        if not self._tail:
            return []
        text = left_out(self._lines_held - self._tail.count("\n")) + self._tail
        self._tail, self._lines_held = "", 0
        return [("stream", {"name": self._name, "text": text})]
