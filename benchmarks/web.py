"""Costs of the web interface: memory of a listener, delay of an event, idle cost."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import psutil
from httpx_sse import ServerSentEvent, connect_sse

from benchmarks.notebook import notebook_kernel
from benchmarks.rows import Row, in_turns
from nbtasks import Task, TaskManager
from nbtasks.web import serve

LISTENERS = 1_000
REPORTS = 200

HOLD_CONNECTIONS = """
import socket, sys
connections = []
for _ in range(int(sys.argv[1])):
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    connection.sendall(sys.argv[3].encode())
    connection.recv(100)
    connections.append(connection)
print("ready", flush=True)
sys.stdin.readline()
"""


def listener_memory() -> Iterator[Row]:
    """Memory of the server for each of 1,000 idle event streams, uvicorn's connection included."""
    with TaskManager() as manager:
        server = serve(manager)
        try:
            _hold(server.port, str(server.token), 5)
            before = psutil.Process().memory_info().rss
            after = _hold(server.port, str(server.token), LISTENERS)
        finally:
            server.stop()
    yield Row("memory of a listener, of 1,000", [(after - before) / LISTENERS], unit="B", at_most=10_000)


def _hold(port: int, token: str, number: int) -> int:
    """Memory of this process while `number` clients listen."""
    request = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    command = [sys.executable, "-c", HOLD_CONNECTIONS, str(number), str(port), request]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    client.stdout.readline()
    used = psutil.Process().memory_info().rss
    client.communicate("\n")
    return used


def event_delay() -> Iterator[Row]:
    """99th percentile of the time from `task.progress = x` to the event, while a foreground cell computes."""
    with notebook_kernel() as kernel:
        text = kernel.run("%bgtask serve").check().text
        [address] = re.findall(r"http://\S+token=\S+", text)
        kernel.run(_REPORTING.format(reports=REPORTS)).check()
        busy = kernel.start_cell("begin.set()\nwhile True: sum(range(1_000))")
        with httpx.Client(base_url=address.partition("?")[0], timeout=60, follow_redirects=True) as client:
            client.get(address)
            with connect_sse(client, "GET", "events") as stream:
                delays = list(_delays(stream.iter_sse()))
        kernel.interrupt()
        busy.wait()
    p99 = statistics.quantiles(delays, n=100)[98]
    yield Row("progress to event at a listener, p99", [1e3 * p99], unit="ms", at_most=150)


_REPORTING = """import threading, time
begin = threading.Event()
get_ipython().run_cell_magic("bgtask", "reporting --quiet", '''begin.wait(); time.sleep(1)
for number in range({reports}):
    current_task().body = str(time.time())
    current_task().progress = 100 * number / {reports}
    time.sleep(0.05)
''')
"""


def _delays(events: Iterator[ServerSentEvent]) -> Iterator[float]:
    for event in events:
        if event.event == "progress" and (body := event.json()["task"]["body"]):
            yield time.time() - float(body)
        if event.event == "completed":
            return


def without_listeners() -> Iterator[Row]:
    """A report of progress with a server without listeners, beside no server."""
    with TaskManager() as served, TaskManager() as plain:
        server = serve(served)
        try:
            ours, peer = in_turns(lambda: _report_ns(served), lambda: _report_ns(plain))
        finally:
            server.stop()
    yield Row("a report, served without listeners", ours, peer, beside="without a server", unit="ns", at_most=1.1)


def _report_ns(manager: TaskManager) -> float:
    """CPU of one report, in nanoseconds."""

    def work(task: Task) -> float:
        start = time.thread_time()
        for number in range(20_000):
            task.progress = number / 200
        return (time.thread_time() - start) / 20_000

    return 1e9 * float(manager.create_task("reports", work).wait())


ROWS = (listener_memory, event_delay, without_listeners)
