"""`make lab`: the address that it prints, the notebooks that it opens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.kernel.conftest import kernel_env

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+(/\S*)\?token=\S+")


def test_it_opens_a_copy_of_the_quickstart_by_the_printed_address(browser, tmp_path):
    """The set-up is left out: what it installs is here already."""
    config, work = tmp_path / "config", tmp_path / "work"
    config.mkdir()
    settings = {"ServerApp": {"open_browser": False, "ip": "127.0.0.1", "port": 0}}
    (config / "jupyter_server_config.json").write_text(json.dumps(settings), encoding="utf-8")
    env = {**kernel_env(tmp_path), "JUPYTER_CONFIG_DIR": str(config)}
    options = ["-o", ".venv/set-up-lab", f"BIN={Path(sys.executable).parent}", f"WORK={work}"]
    make = subprocess.Popen(
        ["make", "lab", *options],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        for line in make.stdout:
            lines.append(line)
            if found := ADDRESS.search(line):
                break
        assert found is not None, lines
        assert found[1] == "/lab/tree/01-quickstart.ipynb"
        assert "Starting JupyterLab with copies of the notebooks" in "".join(lines)
        assert {path.name for path in work.glob("*.ipynb")} == {path.name for path in ROOT.glob("notebooks/*.ipynb")}
        page = browser.new_page()
        page.set_default_timeout(180_000)
        page.goto(found[0])
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
        page.close()
    finally:
        os.killpg(make.pid, signal.SIGTERM)
        # A server whose loop has ended may wait at its exit for a thread of anyio for ever.
        kill = threading.Timer(20, os.killpg, (make.pid, signal.SIGKILL))
        kill.start()
        make.communicate()  # until the server has ended too
        kill.cancel()
