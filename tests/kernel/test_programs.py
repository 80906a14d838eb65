"""Programs of background cells: cancel, timeouts, kernel interrupts, kernel end."""

from __future__ import annotations

import itertools
import os
import random
import socket
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.examples import rarely
from tests.kernel.driver import KernelDriver
from tests.kernel.notebook import load, wait_over

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.platform == "win32", reason="its programs are POSIX ones"),
]

SET_UP = """
import asyncio, multiprocessing, os, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor

def program(mark):
    return [sys.executable, "-c", f"import time; time.sleep(600) # {mark}"]

def shell(mark):
    return f"{sys.executable} -c 'import time; time.sleep(600) # {mark}'"
"""
WAYS = {
    "run": "subprocess.run(program('§'))",
    "check_output": "subprocess.check_output(program('§'))",
    "popen": "subprocess.Popen(program('§')).wait()",
    "communicate": "subprocess.Popen(program('§'), stdout=subprocess.PIPE).communicate()",
    "own session": "subprocess.run(program('§'), start_new_session=True)",
    "preexec_fn": "subprocess.run(program('§'), preexec_fn=os.setsid)",
    "poll loop": "started = subprocess.Popen(program('§'))\nwhile started.poll() is None: time.sleep(0.01)",
    "system": "os.system(shell('§'))",
    "bang": "!{shell('§')}",
    "captured bang": "lines = !{shell('§')}",
    "script magic": "get_ipython().run_cell_magic('bash', '', shell('§') + '\\necho')",
    "grandchildren": "subprocess.run(['sh', '-c', f'{shell(\"§\")} & {shell(\"§\")} & wait'])",
    "orphan": "subprocess.run(['sh', '-c', f'({shell(\"§\")} &)'])\ntime.sleep(0.3)\nwhile True: pass",
    "awaited": "await (await asyncio.create_subprocess_exec(*program('§'))).wait()",
    "awaited shell": "await (await asyncio.create_subprocess_shell(shell('§'))).communicate()",
    "in own loop": (
        "async def run():\n    await (await asyncio.create_subprocess_exec(*program('§'))).wait()\nasyncio.run(run())"
    ),
    "in a thread": "await asyncio.to_thread(subprocess.run, program('§'))",
    "posix_spawn": "os.waitpid(os.posix_spawn(sys.executable, program('§'), os.environ), 0)",
    "fork": "pid = os.fork()\nif not pid: os.execv(sys.executable, program('§'))\nos.waitpid(pid, 0)",
    "multiprocessing": "p = multiprocessing.get_context('fork').Process(target=subprocess.run, args=(program('§'),))\n"
    "p.start()\np.join()",
    "spawned": "p = multiprocessing.get_context('spawn').Process(target=subprocess.run, args=(program('§'),))\n"
    "p.start()\np.join()",
    "fork server": "context = multiprocessing.get_context('forkserver')\n"
    "p = context.Process(target=subprocess.run, args=(program('§'),))\np.start()\np.join()",
    "executor": "with ProcessPoolExecutor(2) as pool: pool.submit(subprocess.run, program('§')).result()",
}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def notebook(module_kernel: KernelDriver) -> KernelDriver:
    load(module_kernel).run(SET_UP).check()
    return module_kernel


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def new_mark() -> str:
    """A text that marks a program in its command line."""
    return f"program-{os.getpid()}-{next(_numbers)}."


def running(mark: str) -> list[psutil.Process]:
    """The running programs with that mark, but not the shells around them."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if process.status() != psutil.STATUS_ZOMBIE and len(line) == 3 and line[2].endswith(mark):
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(holds: Callable[[], object], seconds: float = 60) -> float:
    """Wait until something holds; returns how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "not in time"
        time.sleep(0.01)
    return time.monotonic() - began


def state_of(notebook: KernelDriver, name: str) -> str:
    return str(notebook.value(f"{name}.state.value"))


def launch(notebook: KernelDriver, name: str, code: str, options: str = "") -> str:
    """Launch a cell with a program, which is running when this returns; returns its mark."""
    mark = new_mark()
    notebook.run(f"%%bgtask {name} --lane multiple --quiet {options}\n{code.replace('§', mark)}").check()
    until(lambda: running(mark))
    return mark


@pytest.mark.parametrize("way", WAYS)
def test_cancel_ends_the_programs_that_a_cell_waits_for(notebook: KernelDriver, way: str) -> None:
    mark = launch(notebook, "victim", WAYS[way])
    notebook.run("victim.cancel()").check()
    until(lambda: state_of(notebook, "victim") != "running", 4)  # by SIGTERM: those that ignore it have 5 seconds
    assert running(mark) == [] and state_of(notebook, "victim") == "cancelled"


@pytest.mark.parametrize(
    "way", ["run", "bang", "awaited", *rarely("system", "script magic", "poll loop", "in own loop")]
)
def test_a_timeout_ends_the_programs_too(notebook: KernelDriver, way: str) -> None:
    mark = launch(notebook, "late", WAYS[way], "--timeout 2s")
    until(lambda: state_of(notebook, "late") != "running", 6)
    assert running(mark) == [] and state_of(notebook, "late") == "failed"
    assert "longer than its timeout of 2 s" in notebook.value("late.error")


@pytest.mark.parametrize("way", ["run", "system", "bang", "grandchildren", "own session", "poll loop", "awaited"])
def test_cancel_ends_the_programs_of_a_cell_in_a_process(notebook: KernelDriver, way: str) -> None:
    """The shells in between die of the interrupt, and their programs in the background ignore it."""
    mark = launch(notebook, "victim", WAYS[way], "--backend process")
    notebook.run("victim.cancel()").check()
    until(lambda: state_of(notebook, "victim") != "running")
    assert running(mark) == [] and state_of(notebook, "victim") == "cancelled"


@pytest.mark.long
def test_a_timeout_ends_the_programs_of_a_cell_in_a_process(notebook: KernelDriver) -> None:
    mark = launch(notebook, "late", WAYS["system"], "--backend process --timeout 15s")
    until(lambda: state_of(notebook, "late") != "running")
    assert running(mark) == [] and state_of(notebook, "late") == "failed"
    assert "longer than its timeout of 15 s" in notebook.value("late.error")


@pytest.mark.parametrize(
    "code",
    [
        "asyncio.run(asyncio.sleep(600))",
        "loop = asyncio.new_event_loop()\nloop.run_forever()",
        "loop = asyncio.new_event_loop()\nloop.run_until_complete(asyncio.sleep(600))",
        "async def compute():\n    while True: pass\nasyncio.run(compute())",
        "async def many():\n    await asyncio.gather(*(asyncio.sleep(600) for _ in range(5)))\nasyncio.run(many())",
    ],
)
def test_cancel_stops_an_event_loop_of_the_cell_itself(notebook: KernelDriver, code: str) -> None:
    cell = notebook.run(f"%%bgtask looping --quiet --lane multiple --backend thread\nprint('begun')\n{code}")
    cell.wait_output("begun")
    notebook.run("looping.cancel()").check()
    until(lambda: state_of(notebook, "looping") == "cancelled")


def test_coroutines_of_an_interrupted_loop_clean_up(notebook: KernelDriver) -> None:
    notebook.run("cleaned = []").check()
    notebook.run(
        "%%bgtask looping --quiet --lane multiple --backend thread\n"
        "async def work():\n    try: await asyncio.sleep(600)\n    finally: cleaned.append('work')\n"
        "async def main():\n    print('begun')\n    await asyncio.gather(work(), work())\nasyncio.run(main())"
    ).wait_output("begun")
    notebook.run("looping.cancel()").check()
    until(lambda: state_of(notebook, "looping") == "cancelled")
    assert notebook.value("cleaned") == ["work", "work"]


def test_a_program_that_ignores_termination_is_killed(notebook: KernelDriver) -> None:
    mark = new_mark()
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1); time.sleep(600) # {mark}"
    cell = notebook.run(
        f"%%bgtask deaf --quiet\nimport subprocess, sys\nwith subprocess.Popen([sys.executable, '-uc', {code!r}], "
        "stdout=subprocess.PIPE) as p:\n    print('ready', p.stdout.readline())\n    p.wait()"
    ).check()
    cell.wait_output("ready")
    notebook.run("deaf.cancel()").check()
    assert notebook.value("deaf.cancelling")
    assert until(lambda: state_of(notebook, "deaf") == "cancelled") > 4
    assert running(mark) == []


def test_work_that_swallows_the_interrupt_is_still_cancelling(notebook: KernelDriver) -> None:
    mark = launch(
        notebook,
        "stubborn",
        "while not gates['done'].is_set():\n    try: subprocess.run(program('§'))\n    except BaseException: pass",
    )
    first = running(mark)
    notebook.run("stubborn.cancel()").check()
    until(lambda: running(mark) not in ([], first))
    assert notebook.value("(stubborn.cancelling, stubborn.state.value)") == (True, "running")
    notebook.run("gates['done'].set()\nstubborn.cancel()").check()
    wait_over(notebook, "stubborn")
    assert running(mark) == []


def test_a_clean_up_may_start_programs(notebook: KernelDriver) -> None:
    launch(
        notebook,
        "careful",
        "try: subprocess.run(program('§'))\nfinally: print(subprocess.check_output(['echo', 'removed'], text=True))",
    )
    notebook.run("careful.cancel()").check()
    wait_over(notebook, "careful")
    assert "removed" in notebook.value("careful.output.text")


def test_programs_of_a_completed_cell_keep_running(notebook: KernelDriver) -> None:
    mark = launch(notebook, "starts", "server = subprocess.Popen(program('§'))")
    wait_over(notebook, "starts")
    assert len(running(mark)) == 1
    notebook.run("server.terminate(); server.wait()").check()


@pytest.mark.parametrize("way", [way for way in WAYS if way != "orphan"])
def test_an_interrupt_of_the_kernel_does_not_reach_programs_of_background_cells(
    notebook: KernelDriver, way: str
) -> None:
    mark = launch(notebook, "apart", WAYS[way])
    before = running(mark)
    cell = notebook.start_cell("print('foreground')\nwhile True: pass")
    cell.wait_output("foreground")
    notebook.interrupt()
    cell.wait()
    assert [error.partition(":")[0] for error in cell.errors] == ["KeyboardInterrupt"]
    assert running(mark) == before and state_of(notebook, "apart") == "running"
    notebook.run("apart.cancel()").check()
    wait_over(notebook, "apart")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "wait",
    [
        "with pool: pool.map(subprocess.run, [program('§')] * 2)",
        "pool.map(subprocess.run, [program('§')] * 2)",
        "with pool: list(pool.imap_unordered(subprocess.run, [program('§')] * 2))",
        "result = pool.apply_async(subprocess.run, [program('§')])\nwith pool: result.get(600)",
    ],
)
def test_cancel_ends_a_pool_that_a_cell_waits_for(notebook: KernelDriver, method: str, wait: str) -> None:
    body = f"pids = []\npool = multiprocessing.get_context({method!r}).Pool(2)\n"
    mark = launch(notebook, "pooled", f"{body}for p in pool._pool: pids.append(p.pid)\n{wait}")
    notebook.run("pooled.cancel()").check()
    until(lambda: state_of(notebook, "pooled") != "running")
    assert running(mark) == [] and state_of(notebook, "pooled") == "cancelled"
    pids = notebook.value("pooled.namespace['pids']")
    until(lambda: not [p for p in psutil.process_iter() if p.pid in pids and p.status() != psutil.STATUS_ZOMBIE])
    left = "[p.pid for p in pooled.namespace['pool']._pool if p.is_alive()]"
    time.sleep(0.3)  # a pool looks for processes to replace ten times a second
    assert notebook.value(left) == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_interrupt_of_the_kernel_does_not_reach_a_pool_of_a_background_cell(
    notebook: KernelDriver, method: str
) -> None:
    notebook.run(f"if {method!r} == 'forkserver': multiprocessing.forkserver.ensure_running()").check()
    cell = notebook.run(
        f"%%bgtask pooled --quiet --lane multiple\nwith multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "    pool.map(abs, range(10))\n    print('warm')\n    pool.map(time.sleep, [1, 1])\n    'whole'"
    ).check()
    cell.wait_output("warm")
    foreground = notebook.start_cell("print('foreground')\nwhile True: pass")
    foreground.wait_output("foreground")
    notebook.interrupt()
    foreground.wait()
    wait_over(notebook, "pooled")
    assert notebook.value("(pooled.state.value, pooled.error)") == ("completed", None)


def test_the_resource_tracker_and_the_fork_server_outlive_a_cancelled_task(notebook: KernelDriver) -> None:
    mark = launch(notebook, "first", WAYS["fork server"])
    tracker = "multiprocessing.resource_tracker._resource_tracker._pid"
    servers = f"({tracker}, multiprocessing.forkserver._forkserver._forkserver_pid)"
    pids = notebook.value(servers)
    notebook.run("first.cancel()").check()
    wait_over(notebook, "first")
    assert running(mark) == [] and notebook.value(servers) == pids
    assert all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


SERVER = """
import signal, socket, sys, time
server = socket.socket()
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
def stop(*_):
    time.sleep(1)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("listening", flush=True)
while True: time.sleep(60)
"""


def test_a_replaced_server_has_released_its_address_when_the_new_one_starts(
    notebook: KernelDriver, unused_port: int
) -> None:
    body = (
        f"with subprocess.Popen([sys.executable, '-c', {SERVER!r}, '{unused_port}'], text=True, "
        "stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:\n"
        "    print('first line', p.stdout.readline())\n    p.wait()"
    )
    first = notebook.run(f"%%bgtask server --if-running replace\n{body}").check()
    first.wait_output("first line listening")
    notebook.run("earlier = server").check()
    for _ in range(3):
        again = notebook.run(f"%%bgtask server --if-running replace\n{body}").check()
        assert notebook.value("(server.state.value, server.body)") == (
            "pending", "waits until the earlier run has stopped"
        )  # fmt: skip
        again.wait_output("first line listening")
        assert notebook.value("(earlier.state.value, server.state.value, server.body)") == (
            "cancelled", "running", None
        )  # fmt: skip
        notebook.run("earlier = server").check()
    notebook.run("server.cancel()").check()
    wait_over(notebook, "server")


def test_a_run_that_cannot_replace_the_earlier_one_gives_up(notebook: KernelDriver) -> None:
    notebook.run("%config BackgroundTasks.replace_timeout = 0.5").check()
    code = "while not gates['end'].is_set():\n    try: gates['end'].wait()\n    except BaseException: pass"
    notebook.run(f"%%bgtask deaf --quiet\n{code}").check()
    notebook.run("earlier = deaf").check()
    cell = notebook.run("%%bgtask deaf --if-running replace\nprint('ran')").check()
    until(lambda: state_of(notebook, "deaf") == "cancelled")
    error = notebook.value("deaf.error")
    assert error.startswith("the earlier run 'deaf' (") and error.endswith("has not stopped within 0.5 s")
    assert notebook.value("(earlier.state.value, earlier.cancelling)") == ("running", True)
    cell.wait_output("has not stopped within 0.5 s")
    notebook.run("gates['end'].set()\nget_manager().wait(earlier)").check()
    notebook.run("%config BackgroundTasks.replace_timeout = 30").check()
    assert "ran" not in cell.stdout


def test_the_first_run_of_a_schedule_waits_until_the_earlier_run_has_stopped(
    notebook: KernelDriver, unused_port: int
) -> None:
    body = (
        f"with subprocess.Popen([sys.executable, '-c', {SERVER!r}, '{unused_port}'], text=True, "
        "stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:\n"
        "    print('first line', p.stdout.readline())\n    p.wait()"
    )
    notebook.run(f"%%bgtask server\n{body}").check().wait_output("first line listening")
    notebook.run("earlier = server").check()
    for options in ("--every 1h", '--cron "0 0 1 1 *"'):
        cell = notebook.run(f"%%bgtask server {options} --if-running replace\n{body}").check()
        notebook.run("first = server.run_now() or server.instances[0]").check()
        assert notebook.value("(first.state.value, first.body)") == (
            "pending", "waits until the earlier run has stopped"
        )  # fmt: skip
        until(lambda: notebook.value("'first line listening' in first.output.text"))
        assert notebook.value("(earlier.state.value, first.state.value, first.body)") == (
            "cancelled", "running", None
        )  # fmt: skip
        notebook.run("earlier = first").check()
        assert "in use" not in cell.text
    notebook.run("server.remove(); first.cancel()").check()
    wait_over(notebook)


def test_a_schedule_that_cannot_replace_the_earlier_run_is_paused(notebook: KernelDriver) -> None:
    notebook.run("gates['end'].clear()\n%config BackgroundTasks.replace_timeout = 0.5").check()
    code = "while not gates['end'].is_set():\n    try: gates['end'].wait()\n    except BaseException: pass"
    notebook.run(f"%%bgtask deaf --quiet\n{code}").check()
    notebook.run("earlier = deaf").check()
    notebook.run("%%bgtask deaf --every 1h --if-running replace\nprint('ran')").check()
    notebook.run("first = deaf.run_now() or deaf.instances[0]").check()
    until(lambda: not notebook.value("deaf.enabled"))
    until(lambda: notebook.value("first.state.value") == "cancelled")
    reason = notebook.value("deaf.ended")
    assert reason.startswith("the earlier run 'deaf' (") and reason.endswith("has not stopped within 0.5 s")
    assert notebook.value("first.error") == reason
    notebook.run("gates['end'].set()\nget_manager().wait(earlier)").check()
    notebook.run("%config BackgroundTasks.replace_timeout = 30").check()
    assert notebook.value("deaf.enable()")
    notebook.run("again = deaf.run_now()\nget_manager().wait(again)\ndeaf.remove()").check()
    assert notebook.value("again.output.text") == "ran\n"


@pytest.mark.parametrize("end", ["shutdown", "kill", "exit"])
def test_programs_end_with_the_kernel(start_kernel, end: str) -> None:  # type: ignore[no-untyped-def]
    notebook = load(start_kernel())
    notebook.run(SET_UP).check()
    marks = [launch(notebook, "waits", WAYS["run"]), launch(notebook, "left", "p = subprocess.Popen(program('§'))")]
    if end == "exit":
        notebook.start_cell("os._exit(1)")
    else:
        getattr(notebook, end)()
    until(lambda: not any(running(mark) for mark in marks))


STRESS = {
    "thread": ("run", "check_output", "communicate", "system", "bang", "poll loop", "grandchildren", "script magic"),
    "loop": ("awaited", "awaited shell", "in a thread"),
}
CANCELS = 1000


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_cancels_at_random_moments_leave_no_program(notebook: KernelDriver) -> None:
    """Cells are cancelled before, while and after they start their programs."""
    chance = random.Random(1)
    mark = new_mark()
    ways = [(backend, way) for backend, of_backend in STRESS.items() for way in of_backend]
    for number in range(CANCELS // 10):
        names = [f"stress{number % 2}_{index}" for index in range(10)]
        for name in names:
            backend, way = chance.choice(ways)
            code = WAYS[way].replace("§", mark)
            notebook.run(f"%%bgtask {name} --lane multiple --quiet --backend {backend}\n{code}").check()
            if chance.random() < 0.7:
                notebook.run(f"time.sleep({chance.random() * 0.15})\n{name}.cancel()").check()
        notebook.run(f"for task in [{', '.join(names)}]: task.cancel()").check()
        notebook.run(f"get_manager().wait({', '.join(names)}, timeout=60)").check()
        states = notebook.value(f"[task.state.value for task in [{', '.join(names)}]]")
        assert states == ["cancelled"] * 10 and running(mark) == [], number
    children = notebook.value("[c.name() for c in __import__('psutil').Process().children() if c.status() == 'zombie']")
    assert len(children) < 20
