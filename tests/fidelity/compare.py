"""Comparison of two runs of a notebook, cell by cell.

What differs between any two runs, such as times and addresses, is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fidelity.runs import Run
from tests.kernel.cell import as_on_a_terminal, stream_text, without_ansi

_NUMBER = r"[\d.,]+(?:e[+-]?\d+)?"
_TIME = rf"{_NUMBER} ?(?:ns|[uµμ]s|ms|s|min|h)\b(?: {_NUMBER} ?(?:ns|[uµμ]s|ms|s|min)\b)*"

# What differs between two runs of the same cell in the foreground, too, and what is put in its place.
_INHERENT: list[tuple[re.Pattern[str], str]] = [
    # Where objects lie in memory.
    (re.compile(r"0x[0-9a-fA-F]{6,}"), "<address>"),
    # The kernel's process id, in the names of the files that warnings and tracebacks refer to.
    (re.compile(r"ipykernel_\d+"), "ipykernel_<pid>"),
    # How long something took: %time, %timeit (which also chooses the number of loops by it), %prun, doctest and tqdm.
    (re.compile(r"(CPU times: ).*"), r"\1<times>"),
    (re.compile(rf"(Wall time: ){_TIME}"), r"\1<time>"),
    (re.compile(rf"(Compiler ?: ){_TIME}"), r"\1<time>"),
    (
        re.compile(rf"{_TIME} ± {_TIME} per loop \(mean ± std. dev. of (\d+) runs?, [\d,]+ loops? each\)"),
        r"<time> per loop of \1 runs",
    ),
    (re.compile(rf"The slowest run took {_NUMBER} times longer.*\n"), ""),
    # Bars of tqdm: `10/10 [00:00<00:00, 1234.5it/s]`. How often it draws in between depends on the time, too.
    (re.compile(r"\[\d+:\d+<[\d:?]+, +[\d.?]+(?:it/s|s/it)"), "[<time>, <rate>"),
    # Where a bar's width is what the rest leaves of the line, it depends on how long the rate is.
    (re.compile(r"\|[ █▏▎▍▌▋▊▉]+\|(?= *[\d.]+\w*/)"), "|<bar>|"),
    # Of exception groups IPython shows its own frames, too, of which a background cell has none.
    (re.compile(r'  \|   File "[^"\n]*/interactiveshell\.py", line.*\n(?:  \|     .*\n){1,2}?(?=  \|   File)'), ""),
    # Which frames of asyncio show depends on whether its tasks are those written in C; nest_asyncio's are not.
    (re.compile(r'(?:  |    )\| +File "[^"\n]*/asyncio/tasks\.py", line.*\n(?: +\|  .*\n){1,2}?(?= +\| +File)'), ""),
    # How many tasks of asyncio there were before, those of the kernel included.
    (re.compile(r"\bTask-\d+\b"), "Task-<number>"),
    # Models of widgets, and what pandas' Styler, Plotly and the HTML of animations name their elements by.
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\bT_[0-9a-f]{5}"), "T_<id>"),
    # When a picture was made.
    (re.compile(r"<dc:date>[^<]*"), "<dc:date><now>"),
    # Files and folders that `tempfile` named.
    (re.compile(r"/tmp/tmp[a-z0-9_]{8}"), "/tmp/<name>"),
]


@dataclass(frozen=True)
class Shown:
    """What a cell shows, as far as it is compared."""

    stdout: str
    stderr: str
    displays: tuple[tuple[str, ...], ...]
    """Results, displays and errors in order: their kind and, of bundles, the mime types and the text/plain; of errors,
    the name."""
    details: tuple[str, ...]
    """Everything in its order, word by word: tracebacks, HTML, pictures. Compared only for the strict score."""

    def __bool__(self) -> bool:
        return bool(self.stdout or self.stderr or self.displays)

    @property
    def essence(self) -> tuple[Any, ...]:
        """What the score compares."""
        return self.stdout, self.stderr, self.displays

    def lines(self) -> list[str]:
        """All of it as text, to read and to diff."""
        return [line for detail in self.details for line in detail.splitlines()]


@dataclass(frozen=True)
class Comparison:
    """One cell in two runs."""

    index: int
    source: str
    expected: Shown
    actual: Shown
    timed_out: bool

    @property
    def counts(self) -> bool:
        """Whether it is a cell with output, in either run."""
        return bool(self.expected or self.actual)

    @property
    def same(self) -> bool:
        return not self.timed_out and self.expected.essence == self.actual.essence

    @property
    def same_in_detail(self) -> bool:
        return self.same and self.expected.details == self.actual.details

    def difference(self) -> str:
        """The cell, and how its two outputs differ."""
        diff = difflib.unified_diff(self.expected.lines(), self.actual.lines(), "foreground", "background", lineterm="")
        timed_out = "(the cell did not end in time)\n" if self.timed_out else ""
        return f"--- cell {self.index}\n{self.source}\n{timed_out}" + "\n".join(line[:300] for line in diff)


def compare(expected: Run, actual: Run) -> list[Comparison]:
    """The cells of two runs of one notebook, side by side, but for those that are left out of the second."""
    return [
        Comparison(
            index,
            source.text,
            shown(left, expected),
            shown(right, actual),
            index in {*expected.timed_out, *actual.timed_out},
        )
        for index, (source, left, right) in enumerate(
            zip(expected.notebook.cells, expected.cells, actual.cells, strict=True)
        )
        if index not in actual.left_out
    ]


def shown(outputs: list[dict[str, Any]], run: Run) -> Shown:
    """What the outputs of a cell show, without what differs between any two runs."""

    def plain(text: str) -> str:
        text = without_ansi(text).replace(str(run.home), "<home>")
        for pattern, instead in _INHERENT:
            text = pattern.sub(instead, text)
        return text

    return Shown(
        plain(as_on_a_terminal(stream_text(outputs, "stdout"))),
        plain(as_on_a_terminal(stream_text(outputs, "stderr"))),
        tuple(_essence(output, plain) for output in outputs if output["output_type"] != "stream"),
        tuple(_details(outputs, plain)),
    )


def _essence(output: dict[str, Any], plain: Callable[[str], str]) -> tuple[str, ...]:
    if output["output_type"] == "error":
        return ("error", output["ename"])
    data = output["data"]
    return (output["output_type"], *sorted(data), plain(str(data.get("text/plain", ""))))


def _details(outputs: list[dict[str, Any]], plain: Callable[[str], str]) -> Iterator[str]:
    """Each output word by word. Between two displays the kernel keeps no order of the streams; nor do we."""
    streams: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream":
            streams.append(output)
            continue
        yield from _stream_details(streams, plain)
        streams.clear()
        if output["output_type"] == "error":
            yield f"[error] {output['ename']}: {plain(output['evalue'])}\n" + plain("\n".join(output["traceback"]))
        else:
            yield f"[{output['output_type']}] {_number(output)} {plain(str(output['metadata']))}"
            for mime, content in sorted(output["data"].items()):
                yield f"  {mime}: {plain(str(content))}"
    yield from _stream_details(streams, plain)


def _stream_details(streams: list[dict[str, Any]], plain: Callable[[str], str]) -> Iterator[str]:
    for name in ("stdout", "stderr"):
        if text := stream_text(streams, name):
            yield f"[{name}] {plain(as_on_a_terminal(text))}"


def _number(output: dict[str, Any]) -> str:
    return f"Out[{output['execution_count']}]" if "execution_count" in output else ""
