"""How many examples the tests with hypothesis look at."""

from __future__ import annotations

import os

__all__ = ["examples"]


def examples(few: int, many: int) -> int:
    """`few` with `make test`, `many` with `make test-long`, which sets NBTASKS_MANY_EXAMPLES."""
    return many if os.environ.get("NBTASKS_MANY_EXAMPLES") else few
