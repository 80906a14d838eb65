"""Memory and CPU time of a process and its children."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Usage", "usage_of", "usage_text"]


@dataclass(frozen=True)
class Usage:
    """`memory` in bytes, resident; `cpu` in seconds since the start."""

    memory: int
    cpu: float


def usage_of(pid: int) -> Usage | None:
    """The usage of the process `pid` and its children; None if it has ended."""
    import psutil

    try:
        processes = [process := psutil.Process(pid), *process.children(recursive=True)]
        memory = sum(one.memory_info().rss for one in processes)
        return Usage(memory, sum(sum(one.cpu_times()[:2]) for one in processes))
    except psutil.Error:
        return None


def usage_text(pid: int) -> str:
    """The same as text: "process 1234: 94 MB, 0.6 s of CPU"."""
    usage = usage_of(pid)
    return "" if usage is None else f"process {pid}: {usage.memory / 2**20:,.0f} MB, {usage.cpu:.1f} s of CPU"
