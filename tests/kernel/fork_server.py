"""Fork server of kernels: a process with ipykernel imported that forks others.

This is a script. A kernel that is forked has its modules at once, which is most of the work of its start. Its own
are, as those of any kernel: process, session, environment, folder, streams, command line and everything that
`ipykernel_launcher` makes.
Nothing of nbtasks is imported before the fork, nor what it looks for in the kernel (matplotlib, pandas, tqdm), nor
multiprocessing, which keeps the process's main module.

The only argument is the file descriptor of a socket. Each request is a JSON object with `argv`, `env` and `cwd`; the
answer is the kernel's process id, with a file descriptor of the process. The server ends when the socket is closed;
then its kernels end too, as when a Jupyter server has died.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any

REQUEST_BYTES = 1 << 20
# What a kernel imports at its start.
IMPORTED = (
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.extensions.storemagic",
    "psutil",
    "sqlite3",
    "tornado.queues",
)


def serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each request; returns the request there.

    Here it returns None, when the socket was closed.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:  # a kernel has ended
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    os.waitpid(key.data, 0)
                    continue
                message = channel.recv(REQUEST_BYTES)
                if not message:
                    return None
                pid = os.fork()
                if pid == 0:
                    request: dict[str, Any] = json.loads(message)
                    return request
                ended = os.pidfd_open(pid)
                selector.register(ended, selectors.EVENT_READ, pid)
                socket.send_fds(channel, [str(pid).encode()], [ended])


def become(by_imports: dict[str, str], *, argv: list[str], env: dict[str, str], cwd: str) -> None:
    """Make this process what it would be if it had been started with these arguments.

    `by_imports` are the environment variables that were set by what has been imported.
    """
    os.setsid()
    os.chdir(cwd)
    os.dup2(os.pipe()[0], 0)  # jupyter_client closes the other end at once
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(env, **by_imports, JPY_PARENT_PID=str(os.getppid()))
    launcher = importlib.util.find_spec("ipykernel_launcher")
    assert launcher is not None
    sys.argv[:] = [str(launcher.origin), *argv[argv.index("ipykernel_launcher") + 1 :]]
    sys.orig_argv[:] = argv


def main() -> None:
    """Serve; in a kernel, run it."""
    # ipykernel reads it when it is imported: a kernel ends when the process with this id has.
    os.environ["JPY_PARENT_PID"] = str(os.getpid())
    del sys.path[0]  # the folder of this file, which kernels do not have
    before = dict(os.environ)
    for name in IMPORTED:
        importlib.import_module(name)
    by_imports = dict(os.environ.items() - before.items())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and by that the server
    channel = socket.socket(fileno=int(sys.argv[1]))
    gc.collect()
    request = serve(channel)
    if request is None:
        return
    channel.detach()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    become(by_imports, **request)
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
