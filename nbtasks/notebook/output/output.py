"""`Output`: the output of a task, kept in the kernel and published to cells."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbtasks.notebook.output.kept_output import (
    HEAD_CHARACTERS,
    HEAD_LINES,
    KeptOutputs,
    end_of_first_lines,
    last_lines,
    omission,
)
from nbtasks.notebook.output.publisher import Publisher
from nbtasks.notebook.output.shown_cell import ShownCell

__all__ = ["Message", "Output", "Send"]

Message = tuple[str, dict[str, Any]]
"""A message type of the Jupyter protocol and its content."""
Send = Callable[[str, dict[str, Any]], None]

CLEAR_SECONDS = 0.25
"""The shortest time between two clears of a cell: an animation that clears more often loses frames."""
TAIL_LINES = 5
"""How many of the latest lines `Output.tail` has."""


class Output:
    """The output of one task, in order: text, displays, results, errors.

    Up to 20 million characters are kept. Beyond that the oldest are dropped, and `dropped_characters` is their number.
    It can be read as text (`text`, `str()`) or as notebook outputs (`outputs`), searched, and displayed in any cell.

    `_lock` guards the kept outputs and the messages to publish; `_publishing` keeps published messages in order.
    Any thread may call any method.
    """

    def __init__(self, send: Send | None = None, publisher: Publisher | None = None) -> None:
        self.header: Callable[[], Message | None] | None = None
        """Returns the message that stays at the top of the cell when the task clears its output: its panel."""
        self.header_if_cleared: Callable[[], Message | None] | None = None
        """Returns the same message if the front end has cleared the cell, as Clear All Outputs does."""
        self.on_publish: Callable[[], None] | None = None
        """Called after each round of messages."""
        self.stdout: Callable[[str], int] = functools.partial(self.write, "stdout")
        self.stderr: Callable[[str], int] = functools.partial(self.write, "stderr")
        self.shows_pages = True
        """Whether text for the pager (`x?`) is shown with the output."""
        self._cell = None if send is None else ShownCell(send, lambda: None if self.header is None else self.header())
        self._followers: dict[str, ShownCell] = {}
        self._publisher = publisher
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._kept = KeptOutputs()
        self._open_stream = ""
        self._open: list[str] = []
        self._outbox: list[Message] = []
        self._dirty = False
        self._limit = _FloodLimit()
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
        """Add a mime bundle. With `update` it replaces those that have the same display id."""
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
        """Add the value of the cell's last expression as a mime bundle."""
        content = {"data": data, "metadata": metadata, "execution_count": execution_count}
        self._add("execute_result", content)

    def error(self, ename: str, evalue: str, traceback: list[str]) -> None:
        """Add an error with its formatted traceback."""
        self._add("error", {"ename": ename, "evalue": evalue, "traceback": traceback})

    def take(self, messages: Iterable[Iterable[Any]]) -> None:
        """Add stream and error messages: pairs of a type and a content."""
        for kind, content in messages:
            if kind == "stream":
                self.write(content["name"], content["text"])
            else:
                self.error(content["ename"], content["evalue"], content["traceback"])

    def flush(self) -> None:
        """Do nothing: the publisher's thread sends all text in order, within milliseconds."""

    def sync(self) -> None:
        """Publish all text now, before a message that is sent to the front end directly."""
        self.publish(now=True)

    def sync_displays(self) -> None:
        """Publish now if there is a display, before a widget's message that may need it in the front end."""
        if any(kind != "stream" for kind, _ in tuple(self._outbox)):
            self.publish(now=True)

    def clear(self, *, wait: bool = False) -> None:
        """Clear the output; with `wait` only when something new is written."""
        with self._lock:
            self._close_stream()
            if wait:
                self._outbox.append(("clear_output", {"wait": True}))
            else:
                self._outbox = [("clear_output", {"wait": False})]
            self._kept.clear(wait=wait)
        self._changed()

    def page(self, data: dict[str, Any]) -> None:
        """Show text for the pager as output, since the reply of a cell that has ended cannot carry it."""
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
        """Under the lock: join the text that was written to the open stream to one message."""
        if not self._open:
            return
        name, text = self._open_stream, "".join(self._open)
        self._open = []
        self._outbox.append(("stream", {"name": name, "text": text}))
        self._kept.add_text(name, text)

    # -- reading -----------------------------------------------------------------------------------------------

    @property
    def dropped_characters(self) -> int:
        """How many characters of the output were dropped."""
        return self._kept.dropped

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The kept outputs as a notebook holds them (nbformat 4)."""
        with self._lock:
            self._close_stream()
            return self._kept.outputs()

    @property
    def excerpt(self) -> list[dict[str, Any]]:
        """The same, but of long text only the first and last lines, and of very long output the newest part."""
        with self._lock:
            self._close_stream()
            return self._kept.excerpt()

    @property
    def text(self) -> str:
        """The kept output as plain text; a bundle without `text/plain` is represented by its mime types."""
        with self._lock:
            self._close_stream()
            return self._kept.text()

    def ending(self, characters: int) -> str:
        """At most the last `characters` of `text`."""
        with self._lock:
            self._close_stream()
            return self._kept.ending(characters)

    @property
    def tail(self) -> str:
        """The latest lines of text that is too long for the cell and so is not published yet; else empty."""
        with self._lock:
            return self._limit.tail(TAIL_LINES)

    def search(self, pattern: str) -> list[str]:
        """The lines of `text` that contain a match of the regular expression `pattern`."""
        compiled = re.compile(pattern)
        return [line for line in self.text.splitlines() if compiled.search(line)]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Output of {len(self.outputs)} parts, {self._kept.size:,} characters>"

    def _ipython_display_(self) -> None:
        """Display all kept outputs in the current cell."""
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
        """Publish nothing within this context, so that another message can be the first in the cell."""
        with self._publishing:
            yield

    def follow(self, key: str, send: Send, header: Callable[[], Message | None]) -> None:
        """Also publish to another cell, identified by `key`: first the `excerpt`, then all new output.

        An earlier `follow` with the same key ends.
        """
        with self._publishing:
            with self._lock:
                self._close_stream()
                outbox, self._outbox = _split_at_clear(self._outbox)
                already = self._kept.messages()
            self._followers.pop(key, None)
            self._send_to_all(list(self._messages(outbox)))
            for kind, content in already:
                send(kind, content)
            self._followers[key] = ShownCell(send, header)

    def publish(self, *, now: bool = False, final: bool = False, in_place: bool = False) -> int:
        """Send the new output; returns the number of messages sent.

        A clear that comes too soon after the last one is delayed, except with `now` and `final`. `final` also sends the
        last lines of text that is too long for the cell, and shows the end of an animation as in the foreground, unless
        all is to stay `in_place`.
        """
        with self._publishing:
            with self._lock:
                self._dirty = False
                self._close_stream()
                if not final and (self._has_only_waiting_clear() or (not now and self._clears_too_soon())):
                    return 0
                outbox, self._outbox = _split_at_clear(self._outbox)
            messages = list(self._messages(outbox))
            if final:
                messages += self._limit.rest()
            self._send_to_all(messages)
            if final and not in_place:
                self._settle()
        if messages and self.on_publish is not None:
            self.on_publish()
        return len(messages) * (1 + len(self._followers))

    @property
    def pending(self) -> bool:
        """Whether there is output that `publish` would send, now or after a delay."""
        return bool(self._open or (self._outbox and not self._has_only_waiting_clear()))

    def _has_only_waiting_clear(self) -> bool:
        """Whether the only message is a `clear_output(wait=True)` that nothing has followed yet."""
        return len(self._outbox) == 1 and self._outbox[0] == ("clear_output", {"wait": True})

    def _clears_too_soon(self) -> bool:
        clears = any(kind == "clear_output" for kind, _ in self._outbox)
        return clears and time.monotonic() - self._cleared_at < CLEAR_SECONDS

    def _messages(self, outbox: list[Message]) -> Iterator[Message]:
        for kind, content in outbox:
            if kind == "clear_output":
                self._cleared_at = time.monotonic()
                self._limit = _FloodLimit()
                yield kind, {"wait": len(outbox) > 1}
            elif kind == "stream":
                yield from self._limit.admit(content["name"], content["text"])
            else:
                yield kind, content

    @property
    def _cells(self) -> list[ShownCell]:
        return [*([] if self._cell is None else [self._cell]), *self._followers.values()]

    def _send_to_all(self, messages: list[Message]) -> None:
        if messages and self._cell is not None and self.header_if_cleared is not None:
            header = self.header_if_cleared()
            if header is not None:
                self._cell.show_panel_again(header)
        for cell in self._cells:
            cell.publish(messages)

    def _settle(self) -> None:
        with self._lock:
            outputs = self._kept.messages()
        for cell in self._cells:
            cell.settle(outputs)


def _split_at_clear(outbox: list[Message]) -> tuple[list[Message], list[Message]]:
    """The messages to send, without those before a clear, and those to keep: a clear at the end."""
    waiting: list[Message] = []
    if outbox and outbox[-1] == ("clear_output", {"wait": True}):
        waiting.append(outbox.pop())
    clears = [index for index, (kind, _) in enumerate(outbox) if kind == "clear_output"]
    return outbox[clears[-1] if clears else 0 :], waiting


class _FloodLimit:
    """Limits the text in a cell: first lines, finally the last ones and an omission."""

    def __init__(self) -> None:
        self._lines_left = HEAD_LINES
        self._characters_left = HEAD_CHARACTERS
        self._name = "stdout"
        self._tail = ""
        self._lines_held = 0
        self._full = False

    def admit(self, name: str, text: str) -> Iterator[Message]:
        """The messages with the part of `text` that the cell shows now."""
        cut = 0 if self._full else end_of_first_lines(text, self._lines_left, self._characters_left)
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
        """The last lines of the text that was not admitted."""
        return last_lines(self._tail, lines)

    def rest(self) -> list[Message]:
        """A message with the last lines, after the number of those left out, if any."""
        if not self._tail:
            return []
        text = omission(self._lines_held - self._tail.count("\n")) + self._tail
        self._tail, self._lines_held = "", 0
        return [("stream", {"name": self._name, "text": text})]
