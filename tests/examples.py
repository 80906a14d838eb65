"""Examples that tests look at, with `make test` and with `make test-long`."""

from __future__ import annotations

import os
from typing import Any

import pytest

__all__ = ["examples", "rarely"]


def examples(few: int, many: int) -> int:
    """`few` with `make test`, `many` with `make test-long`, which sets NBTASKS_MANY_EXAMPLES."""
    return many if os.environ.get("NBTASKS_MANY_EXAMPLES") else few


def rarely(*values: Any) -> list[Any]:
    """Parameters of a test that are looked at with `make test-long` only."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]
