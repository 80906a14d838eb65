"""Cells that are sent to the background at random moments, before others."""

from __future__ import annotations

import ast
import itertools
import random
import textwrap
import time
from dataclasses import dataclass

from tests.kernel.driver import Cell, KernelDriver

QUEUED = 5


@dataclass(frozen=True)
class Adopted:
    """Which cell was sent to the background, or why none was."""

    request_id: str = ""
    refused: str = ""


def adopt(kernel: KernelDriver, name: str | None = None, *, subshell: str) -> Adopted:
    """Send the running cell to the background, as a front end does while the kernel is busy."""
    call = f"__import__('nbtasks.notebook.adoption').notebook.adoption.adopt({name!r}).cell.request_id"
    content = {"code": "", "silent": True, "store_history": False, "user_expressions": {"it": call}}
    answer = kernel.request("execute_request", content, subshell=subshell)["user_expressions"]["it"]
    if answer["status"] == "ok":
        return Adopted(ast.literal_eval(answer["data"]["text/plain"]))
    return Adopted(refused=f"{answer['ename']}: {answer['evalue']}")


@dataclass(frozen=True)
class Kind:
    """A cell that runs for some 50 ms; `ending` is its last line."""

    code: str
    ending: str
    result: str = ""
    error: str = ""
    steps: int = 12

    def source(self, number: int) -> str:
        body = textwrap.indent(self.code.format(number=number), "    ")
        return (
            f"order.append(('began', {number}))\nfor i in range({self.steps}):\n{body}\n"
            f"order.append(('ended', {number}))\n{self.ending.format(number=number)}"
        )


PRINT = "print('{number} line', i)"
KINDS = (
    Kind(f"{PRINT}; time.sleep(0.004)", "'result {number}'", result="'result {number}'"),
    Kind(f"{PRINT}; sum(range(60_000))", "{number} + 0.5", result="{number}.5"),
    Kind(f"{PRINT}; time.sleep(0.004)", "'hidden';"),
    Kind(f"{PRINT}; await asyncio.sleep(0.004)", "'awaited {number}'", result="'awaited {number}'"),
    Kind(f"{PRINT}; time.sleep(0.004)", "raise LookupError({number})", error="LookupError: {number}"),
    Kind(f"{PRINT}; time.sleep(0.004)", "Slow({number})", result="slow {number}"),
)
SETUP = """
import asyncio, time
order = []
class Slow:
    "A value whose representation takes time: the cell ends while it is made."
    def __init__(self, number): self.number = number
    def __repr__(self):
        time.sleep(0.02)
        return f"slow {self.number}"
"""
BEHIND = (
    "order.append('{number}.0')\n'value {number}.0'",
    "order.append('{number}.1')\nprint('text {number}.1')",
    "order.append('{number}.2')\ndisplay('shown {number}.2')\n'hidden';",
    "order.append('{number}.3')\nawait asyncio.sleep(0.001)\n'value {number}.3'",
    "order.append('{number}.4')\ntime.sleep(0.01)\nprint('text {number}.4')\n'value {number}.4'",
)
SHOWN = (
    "'value {number}.0'\n",
    "text {number}.1\n",
    "'shown {number}.2'\n",
    "'value {number}.3'\n",
    "text {number}.4\n'value {number}.4'\n",
)


class Rounds:
    """Runs rounds of one cell and five behind it, and checks each."""

    def __init__(self, kernel: KernelDriver, seed: int) -> None:
        self.kernel = kernel
        self.random = random.Random(seed)
        self.subshell = kernel.create_subshell()
        self.adopted = 0
        self.refused: list[str] = []
        kernel.run(SETUP).check()

    def run(self, adoptions: int) -> None:
        """Run rounds until that number of cells was sent to the background; others have ended before."""
        for number in itertools.count():
            if self.adopted >= adoptions:
                return
            self._round(number)

    def _round(self, number: int) -> None:
        kernel, kind = self.kernel, self.random.choice(KINDS)
        count = kernel.value("get_ipython().execution_count")
        cell = kernel.start_cell(kind.source(number))
        early = self.random.randrange(QUEUED + 1)  # the others come after the cell was sent to the background
        behind = [kernel.start_cell(code.format(number=number)) for code in BEHIND[:early]]
        time.sleep(self.random.uniform(0, 0.07))
        adopted = adopt(kernel, subshell=self.subshell)
        behind += [kernel.start_cell(code.format(number=number)) for code in BEHIND[early:]]
        for one in (cell, *behind):
            one.wait()
        is_away = adopted.request_id == cell.msg_id  # else that one had just ended, and one behind it was sent away
        self.adopted += is_away
        if adopted.refused:
            self.refused.append(adopted.refused)
        where = f"round {number}, {adopted}, {early} queued before, {kind}"
        self._check_cell(cell, kind, number, where)
        self._check_behind(behind, number, where, may_abort=bool(kind.error) and not is_away)
        counts = [one.reply["execution_count"] for one in (cell, *behind) if one.reply["status"] != "aborted"]
        assert counts == list(range(count, count + len(counts))), where

    def _check_cell(self, cell: Cell, kind: Kind, number: int, where: str) -> None:
        outputs = [one for one in cell.outputs if not _is_panel(one)]
        text = "".join(one["text"] for one in outputs if one["output_type"] == "stream")
        assert text == "".join(f"{number} line {i}\n" for i in range(kind.steps)), f"{where}\n{cell}"
        results = [one for one in outputs if one["output_type"] == "execute_result"]
        shown = [kind.result.format(number=number)] if kind.result else []
        assert [one["data"]["text/plain"] for one in results] == shown, f"{where}\n{cell}"
        assert [one["execution_count"] for one in results] == [cell.reply["execution_count"]] * len(results), where
        assert cell.errors == ([kind.error.format(number=number)] if kind.error else []), f"{where}\n{cell}"
        assert cell.reply["status"] == ("error" if kind.error else "ok"), where

    def _check_behind(self, behind: list[Cell], number: int, where: str, *, may_abort: bool) -> None:
        ran = [one for one in behind if one.reply["status"] != "aborted"]
        assert len(ran) == QUEUED or may_abort, f"{where}\n{behind}"
        for index, one in enumerate(behind):
            if one in ran:
                assert one.ok, f"{where}\n{one}"
                assert _text(one) == SHOWN[index].format(number=number), f"{where}\n{one}"
                results = [output for output in one.outputs if output["output_type"] == "execute_result"]
                assert all(output["execution_count"] == one.reply["execution_count"] for output in results), where
        expected = [f"{number}.{index}" for index, one in enumerate(behind) if one in ran]
        order = self.kernel.value("order")
        assert [entry for entry in order if isinstance(entry, str)] == expected, f"{where}\n{order}"
        assert [entry for entry in order if not isinstance(entry, str)] == [("began", number), ("ended", number)], where
        assert order[0] == ("began", number), where
        self.kernel.value("order.clear()")


def _text(cell: Cell) -> str:
    return "".join(
        one["text"] if one["output_type"] == "stream" else one["data"]["text/plain"] + "\n"
        for one in cell.outputs
        if not _is_panel(one)
    )


def _is_panel(output: dict) -> bool:
    return output["output_type"] == "display_data" and "bg" in output["data"].get("text/plain", "")
