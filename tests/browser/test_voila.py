"""Voila: panels of a notebook that is shown as a page are live, and Cancel works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.driver import TIME_LIMIT_MS, notebook_json
from tests.browser.lab import START_LIMIT, free_port
from tests.kernel.conftest import kernel_env

pytestmark = pytest.mark.browser

CELLS = (
    "%load_ext nbtasks\nimport time\nfrom nbtasks import track",
    "%%bgtask it\nfor _ in track(range(10_000)): time.sleep(0.05)",
    "%bgtask",
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a notebook with CELLS in Voila."""
    notebook, log = tmp_path / "it.ipynb", tmp_path / "voila.log"
    notebook.write_text(json.dumps(notebook_json(CELLS)), encoding="utf-8")
    port = f"--port={free_port()}"  # with 0 Voila prints 0
    command = [sys.executable, "-m", "voila", str(notebook), "--no-browser", port, "--Voila.ip=127.0.0.1"]
    env = {**kernel_env(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield wait_for_address(process, log)
    finally:
        process.terminate()
        process.wait(60)


def wait_for_address(process: Any, log: Path) -> str:
    deadline = time.monotonic() + START_LIMIT
    while not (found := re.search(r"http://\S+:\d+/", log.read_text(errors="replace"))):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)  # the log of another process cannot be awaited
    return found[0]


def test_the_panel_is_live_and_cancels(address, browser):
    page = browser.new_page()
    page.set_default_timeout(TIME_LIMIT_MS)
    page.goto(address)
    panel = page.locator(".nbtasks-panel").first
    bar = panel.locator(".progress-bar")
    before = bar.get_attribute("style")
    expect(bar).not_to_have_attribute("style", before or "", timeout=TIME_LIMIT_MS)
    expect(page.locator(".nbtasks-table").first).to_contain_text("running 1", timeout=TIME_LIMIT_MS)
    panel.get_by_role("button", name="Cancel").click()
    expect(panel).to_contain_text("cancelled", timeout=TIME_LIMIT_MS)
    expect(page.locator(".nbtasks-table").first).to_contain_text("cancelled 1", timeout=TIME_LIMIT_MS)
    page.close()
