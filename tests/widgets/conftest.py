"""The fixture that the tests of live views share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nbtasks import TaskManager
from nbtasks.widgets.live_writer import LiveWriter


@pytest.fixture
def live(manager: TaskManager) -> Iterator[LiveWriter]:
    """A live writer of the test's manager."""
    live = LiveWriter(manager)
    yield live
    live.close()
