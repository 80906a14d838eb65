"""`%bgtask serve`: the tasks of a notebook over HTTP."""

from __future__ import annotations

import re

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx_sse")

from httpx_sse import connect_sse

from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load

BUSY = "while not done.is_set(): sum(range(1_000))"


def serve(kernel: KernelDriver, options: str = "") -> str:
    """The address that the command prints."""
    text = kernel.run(f"%bgtask serve {options}").check().text
    [address] = re.findall(r"http://127\.0\.0\.1:\d+/\?token=\S+", text)
    return address


def test_tasks_are_served_and_cancelled_while_the_kernel_is_busy(kernel: KernelDriver) -> None:
    load(kernel)
    address = serve(kernel)
    kernel.run("%%bgtask fit\nfor number in track(range(10**9)):\n    if number % 100_000 == 0: print(number)").check()
    kernel.run("done = threading.Event()").check()
    busy = kernel.start_cell(BUSY)
    with httpx.Client(base_url=address.partition("?")[0], follow_redirects=True, timeout=60) as browser:
        assert "<title>nbtasks</title>" in browser.get(address).text
        [task] = browser.get("api/tasks", params={"name": "fit"}).json()["tasks"]
        with connect_sse(browser, "GET", "events") as stream:
            kinds = set()
            for event in stream.iter_sse():
                if event.event == "output":
                    assert event.json()["tail"].strip()
                if event.event == "progress" and "output" in kinds and "cancelled" not in kinds:
                    browser.post(f"api/tasks/{task['id']}/cancel").raise_for_status()
                kinds.add(event.event)
                if event.event == "cancelled":
                    break
        assert "0\n100000\n" in browser.get(f"api/tasks/{task['id']}/output", params={"tail": 10_000}).json()["text"]
    kernel.interrupt()
    busy.wait()
    assert kernel.run("%bgtask serve --stop").check().text.strip() == "The web page is not served any more"
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_one_server_for_a_notebook(kernel: KernelDriver) -> None:
    load(kernel)
    address = serve(kernel)
    assert serve(kernel) == address
    cell = kernel.run("%bgtask serve --port 1")
    assert "already serving on port" in cell.text + cell.stderr
    for line, problem in (
        ("%bgtask serve --port x", "invalid int value"),
        ("%bgtask serve --pot 1", "unrecognized arguments"),
        ("%bgtask serve --stop\n%bgtask serve --port 70000", "70000"),
    ):
        cell = kernel.run(line)
        assert problem in cell.text + cell.stderr
    assert kernel.run("%bgtask serve --stop").check().text.strip() == "Nothing was served"


def test_unloading_stops_the_server(kernel: KernelDriver) -> None:
    load(kernel)
    address = serve(kernel)
    kernel.run("%unload_ext nbtasks").check()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_without_the_extra_it_says_what_to_install(kernel: KernelDriver) -> None:
    load(kernel)
    kernel.run("import sys; sys.modules['uvicorn'] = None").check()
    cell = kernel.run("%bgtask serve")
    assert "nbtasks.web needs uvicorn" in cell.text + cell.stderr
