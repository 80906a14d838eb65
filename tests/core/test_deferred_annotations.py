"""Subclasses of `Task` in modules without `from __future__ import annotations`."""

import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest

from nbtasks import Task, TaskManager
from nbtasks.exceptions import WorkError


@dataclass
class Fetch(Task):
    url: str = ""
    lane: str = "single"
    tags: tuple[str, ...] = ("web",)
    size: int | None = None

    def run(self) -> str:
        return f"{self.url} in {self.lane}"


@dataclass(slots=True)
class Slotted(Task):
    url: str = ""
    lane: str = "single"

    def run(self) -> str:
        return self.url


def test_annotated_defaults_of_the_fields_of_every_task_are_no_fields_of_the_subclass(manager: TaskManager) -> None:
    task = manager.add_task(Fetch("a", 3))
    assert task.wait(30) == "a in single"
    assert (task.url, task.size, task.lane, task.tags) == ("a", 3, "single", ("web",))
    assert Fetch.__match_args__ == ("url", "size")


def test_the_same_with_slots(manager: TaskManager) -> None:
    task = manager.add_task(Slotted("a"))
    assert task.wait(30) == "a" and (task.url, task.lane) == ("a", "single")


def test_a_subclass_of_a_subclass_has_its_own_defaults() -> None:
    @dataclass
    class Slow(Fetch):
        lane: str = "multiple"
        seconds: float = 1.0

    task = Slow("a", seconds=2.0)
    assert (task.url, task.lane, task.seconds, Fetch("b").lane) == ("a", "multiple", 2.0, "single")


@pytest.mark.parametrize("name", ["result", "state", "cancel"])
def test_names_that_every_task_has_are_refused(name: str) -> None:
    source = f"""
    class Wrong(Task):
        {name}: str
    """
    with pytest.raises(WorkError, match=f"Wrong.{name}: every task has a '{name}' of its own"):
        exec(compile(textwrap.dedent(source), "<cell>", "exec", dont_inherit=True), {"Task": Task})


def test_an_annotation_may_name_what_is_defined_later() -> None:
    namespace: dict[str, Any] = {"Task": Task, "dataclass": dataclass, "__name__": "__main__"}
    # Before Python 3.14 annotations are evaluated at once, unless they are told not to be.
    future = "" if sys.version_info >= (3, 14) else "from __future__ import annotations"
    source = f"""
    {future}
    @dataclass
    class Fetch(Task):
        request: Request
        lane: str = "single"
    class Request: pass
    """
    exec(compile(textwrap.dedent(source), "<cell>", "exec", dont_inherit=True), namespace)
    request = namespace["Request"]()
    task = namespace["Fetch"](request)
    assert task.request is request and task.lane == "single"
    assert list(inspect.get_annotations(namespace["Fetch"])) == ["request"]


def test_work_may_name_in_its_annotations_what_is_defined_later(manager: TaskManager) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    future = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    source = f"{future}def work(task: Later, times: Other = 2) -> Later:\n    return task.name * times"
    exec(compile(source, "<cell>", "exec", dont_inherit=True), namespace)
    assert manager.create_task("a", namespace["work"]).wait(30) == "aa"
