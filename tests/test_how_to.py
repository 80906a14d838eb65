"""The how-to pages: their scripts run, and print what the pages say."""

from __future__ import annotations

import inspect
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Task, TaskManager

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "how-to"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and text of each block of code, in order."""
    return BLOCK.findall((PAGES / page).read_text(encoding="utf-8"))


def printed_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    errors = re.sub(r"nbtasks: the end of the process has cut off .*\n", "", done.stderr)  # as the page says
    assert (done.returncode, errors) == (0, ""), done.stderr
    return done.stdout


def scripts(page: str) -> list[Any]:
    """Each script of a page, with what it prints by the block that follows it."""
    found = blocks(page)
    expected = [text if language == "text" else "" for language, text in [*found[1:], ("", "")]]
    return [
        pytest.param(text, out, id=f"{page}-{number}")
        for number, ((language, text), out) in enumerate(zip(found, expected, strict=True))
        if language == "python"
    ]


@pytest.mark.parametrize(
    ("script", "out"),
    [*scripts("scripts.md"), *scripts("other-task-managers.md"), *scripts("task-classes.md")],
)
def test_a_script_runs_and_prints_what_is_below_it(script, out):
    assert printed_by(script) == out


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_what_a_page_names_exists(page):
    text = (PAGES / page).read_text(encoding="utf-8")
    for owner, kind in (("manager", TaskManager), ("task", Task)):
        named = set(re.findall(rf"\b{owner}\.(\w+)", text)) - {"submit"}
        annotated = {name for cls in kind.__mro__ for name in inspect.get_annotations(cls)}
        assert [name for name in sorted(named - annotated) if not hasattr(kind, name)] == []


class Application:
    """The application of the page, served by uvicorn."""

    def __init__(self, folder: Path) -> None:
        import httpx

        (folder / "app.py").write_text(blocks("fastapi.md")[0][1], encoding="utf-8")
        command = re.search(r"^uvicorn (.*)$", (PAGES / "fastapi.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert command is not None
        options = [*command[1].split(), "--host", "127.0.0.1", "--port", "0", "--app-dir", str(folder)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if match := re.search(r"running on (http://[\d.:]+)", line):
                break
        else:
            raise AssertionError("the server did not start")
        self.client = httpx.Client(base_url=match[1], timeout=30)

    def followed(self, task_id: str) -> Iterator[dict[str, Any]]:
        with self.client.stream("GET", f"/reports/{task_id}/events") as response:
            for line in response.iter_lines():
                if line:
                    yield json.loads(line.removeprefix("data: "))

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture
def application(tmp_path) -> Iterator[Application]:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    application = Application(tmp_path)
    try:
        yield application
    finally:
        application.client.close()
        application.process.kill()
        application.process.communicate()


def test_the_application_starts_lists_follows_and_cancels_tasks(application):
    client = application.client
    answer = client.post("/reports", params={"pages": 4})
    assert (answer.status_code, answer.json()["name"]) == (202, "report")
    task_id = answer.json()["id"]
    expected = list(application.followed(task_id))
    assert (expected[-1]["state"], expected[-1]["progress"], expected[-1]["result"]) == ("completed", 100.0, 4)
    assert any(0 < (event["progress"] or 0) < 100 for event in expected)
    assert client.get(f"/reports/{task_id}").json()["body"] == "page 4 of 4"
    assert client.get("/reports/unknown").status_code == 404
    assert client.delete(f"/reports/{task_id}").status_code == 409

    ids = [client.post("/reports", params={"pages": 100_000}).json()["id"] for _ in range(3)]
    assert [task["id"] for task in client.get("/reports").json()] == [task_id, *ids]
    assert [task["id"] for task in client.get("/reports", params={"state": "pending"}).json()] == [ids[2]]
    assert client.delete(f"/reports/{ids[0]}").status_code == 200
    assert list(application.followed(ids[0]))[-1]["state"] == "cancelled"
    assert next(iter(application.followed(ids[2])))["state"] == "running"


def test_the_application_shuts_down_gracefully_while_tasks_run_and_are_followed(application):
    ids = [application.client.post("/reports", params={"pages": 100_000}).json()["id"] for _ in range(3)]
    following = application.followed(ids[0])
    assert next(following)["state"] == "running"
    code, err = application.end()
    assert code in (0, -signal.SIGTERM), err
    assert "Application shutdown complete" in err
    assert "never awaited" not in err and "was destroyed" not in err


def test_the_web_page_mounts_and_serves_an_app():
    pytest.importorskip("uvicorn")
    script = "\n".join(text for language, text in blocks("web.md") if language == "python")
    assert re.fullmatch(r"/tasks/\?token=\S{43}\n", printed_by(script))
