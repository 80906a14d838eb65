"""Downloads by `download_file`, compared with httpx alone on the same file.

The server is on loopback, in another process, so that neither side shares its time.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from benchmarks.rows import Row, in_turns
from nbtasks import TaskManager
from nbtasks.actions import download_file

MEGABYTES = 50
CHUNK = 8192
SERVER = """
import http.server, functools
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory={folder!r}))
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """A file of `MEGABYTES`, on a server of its own."""
    (folder / "file.bin").write_bytes(bytes(MEGABYTES * 1_000_000))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(folder=str(folder))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/file.bin"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def download() -> Iterator[Row]:
    """From the call until the file is in its place, per megabyte."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _served(folder) as url:

            async def ours() -> float:
                async with TaskManager() as manager:
                    start = time.perf_counter()
                    await manager.create_task("file", partial(download_file, url=url, destination=folder / "ours"))
                    return 1e3 * (time.perf_counter() - start) / MEGABYTES

            async def peer() -> float:
                start = time.perf_counter()
                async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
                    with (folder / "peer").open("wb") as file:
                        async for chunk in response.aiter_bytes(CHUNK):
                            file.write(chunk)
                return 1e3 * (time.perf_counter() - start) / MEGABYTES

            measured = in_turns(lambda: asyncio.run(ours()), lambda: asyncio.run(peer()), rounds=15)
    yield Row("download, each MB", *measured, beside="httpx, streamed to a file", unit="ms", at_most=1.1)


ROWS = [download]
