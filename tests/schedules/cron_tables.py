"""Tables of fire times as text: one line for each expression."""

from __future__ import annotations

from datetime import datetime

import pytest


def rows(zone: str, year: int, lines: str) -> list[object]:
    """Test parameters (expression, zone, naive start, fires as texts) from lines of a table.

    A line reads `expression | start | fires | what it shows`; a time without a year is in `year`, one without a
    time of day at midnight.
    """
    parameters = []
    for line in lines.strip().splitlines():
        expression, start, expected, shows = (cell.strip() for cell in line.split("|"))
        first, *times = (
            datetime.fromisoformat(text if text[4:5] == "-" else f"{year}-{text}")
            for text in [start, *expected.split()]
        )
        identity = f"{zone} {expression}: {shows}"
        texts = [time.isoformat() for time in times]
        parameters.append(pytest.param(expression, zone, first, texts, id=identity))
    return parameters
