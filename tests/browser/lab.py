"""A JupyterLab server for the tests, and its REST interface."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_core.paths import jupyter_path

SHARE = Path(__file__).parent.parent.parent / "share" / "jupyter"
START_LIMIT = 300.0

# No news, no look for updates; and no autosave, so that a test knows what a saved notebook holds.
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}

PAGE_CONFIG = {
    # Its animation costs more than all else that is drawn while the page is loaded.
    "disabledExtensions": {"@jupyterlab/apputils-extension:splash": True},
    # Asked by each page, answered by the server with a look through all extensions.
    "buildAvailable": False,
    "buildCheck": False,
}


class Lab:
    """A JupyterLab server on loopback; with Notebook 7 at `/notebooks`, if installed.

    Its files, settings and data are all under `home`; notebooks in `home / "root"`. It has the extension of this tree,
    or with `extension=False` none of nbtasks, whatever is installed.
    """

    def __init__(self, env: Mapping[str, str], home: Path, *, extension: bool = True) -> None:
        self.home = home
        self.root = home / "root"
        self.log = home / "server.log"
        self.token = secrets.token_hex(16)
        self.url = ""
        settings, workspaces, runtime = (home / name for name in ("settings", "workspaces", "runtime"))
        for folder in (self.root, settings, workspaces, runtime):
            folder.mkdir()
        for name, values in SETTINGS.items():
            path = settings / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf-8")
        page_config = Path(env["JUPYTER_CONFIG_DIR"]) / "labconfig" / "page_config.json"
        page_config.parent.mkdir(exist_ok=True)
        page_config.write_text(json.dumps(PAGE_CONFIG), encoding="utf-8")
        self.env = {
            **env,
            "JUPYTER_TOKEN": self.token,
            "JUPYTER_RUNTIME_DIR": str(runtime),
            "JUPYTERLAB_SETTINGS_DIR": str(settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(workspaces),
        }
        if extension:
            self.env["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(SHARE), env.get("JUPYTER_PATH")]))
        self._extensions = None if extension else _other_extensions(home / "labextensions")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server, on a port that it chooses, and waits until it answers."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *self._arguments()],
                env=self.env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"JupyterLab did not start:\n{self.log.read_text(errors='replace')}")

    def _arguments(self) -> list[str]:
        apps = ("LabApp", "JupyterNotebookApp") if self._extensions else ()
        return [
            *(f"--{app}.labextensions_path={self._extensions}" for app in apps),
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            f"--ServerApp.root_dir={self.root}",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        info = Path(self.env["JUPYTER_RUNTIME_DIR"]) / f"jpserver-{self._process.pid}.json"
        try:
            self.url = f"http://127.0.0.1:{json.loads(info.read_text())['port']}"
            self.api("GET", "status")
        except (FileNotFoundError, json.JSONDecodeError, urllib.error.URLError, ConnectionError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)  # a server that is not there yet cannot be waited for otherwise
            return False
        return True

    def stop(self) -> None:
        """Ends the server and with it the kernels."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the server's REST interface."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    def sessions(self, path: str) -> list[dict[str, Any]]:
        """The sessions of the notebook at this path, below the server's root."""
        return [session for session in self.api("GET", "sessions") if session["path"] == path]

    def end_sessions(self, path: str) -> None:
        """Shuts down the kernel of the notebook at this path, if it has one."""
        for session in self.sessions(path):
            self.api("DELETE", f"sessions/{session['id']}")

    def run_in_kernel(self, path: str, code: str) -> None:
        """Runs code in the kernel of the notebook at this path, beside its page, and waits for the end."""
        [session] = self.sessions(path)
        [connection] = Path(self.env["JUPYTER_RUNTIME_DIR"]).glob(f"kernel-{session['kernel']['id']}.json")
        client = BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels()
        try:
            reply = client.execute_interactive(code, store_history=False, timeout=START_LIMIT)
        finally:
            client.stop_channels()
        assert reply["content"]["status"] == "ok", reply["content"]

    def forget_kernel(self, path: str) -> None:
        """Removes from the saved notebook which kernel it wants, so that JupyterLab asks when it is opened.

        Through the server, which keeps trusting the notebook.
        """
        model = self.api("GET", f"contents/{path}")
        model["content"]["metadata"] = {}
        self.api("PUT", f"contents/{path}", {name: model[name] for name in ("type", "format", "content")})

    def reset_theme(self) -> None:
        """Undoes a change of theme, which is a setting of the whole server."""
        theme = self.home / "settings" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
        theme.unlink(missing_ok=True)


def _other_extensions(folder: Path) -> Path:
    """A copy of the installed extensions without that of nbtasks."""
    for installed in reversed(jupyter_path("labextensions")):
        if Path(installed).is_dir():
            shutil.copytree(installed, folder, ignore=shutil.ignore_patterns("nbtasks"), dirs_exist_ok=True)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
