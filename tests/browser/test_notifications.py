"""Notifications of finished tasks in a page that is not visible."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

# Makes the page look hidden to scripts (a headless browser hides none), and records notifications and tones.
RECORD = """
window.seen = { notifications: [], tones: [], asked: 0 };
window.hide = on => { window.isHidden = on; document.dispatchEvent(new Event("visibilitychange")); };
Object.defineProperty(document, "visibilityState", { get: () => window.isHidden ? "hidden" : "visible" });
const Real = window.Notification;
window.Notification = class extends Real {
    constructor(title, options) { super(title, options); window.seen.notifications.push({ title, ...options }); }
    static get permission() { return window.seen.asked ? "granted" : "default"; }
    static requestPermission() { window.seen.asked += 1; return Promise.resolve("granted"); }
};
const create = AudioContext.prototype.createOscillator;
AudioContext.prototype.createOscillator = function () {
    const tone = create.call(this);
    setTimeout(() => window.seen.tones.push(tone.frequency.value));
    return tone;
};
"""

LOAD = (
    "%load_ext nbtasks\nimport threading\nfrom nbtasks import get_manager\n"
    "class Gates(dict):\n    def __missing__(self, name): return self.setdefault(name, threading.Event())\n"
    "gates = Gates()"
)


def cell(name: str, then: str = "pass", options: str = "--notify") -> str:
    return f"%%bgtask {name} {options} --lane multiple\ngates['{name}'].wait()\n{then}"


def recording(open_page, sources: list[str], frontend: str = "lab"):
    """A page whose notifications are recorded, with permission to show them."""
    page = open_page(sources, frontend=frontend, script=RECORD, permissions=["notifications"])
    page.run(0)
    return page


def seen(page) -> dict:
    return page.page.evaluate("() => window.seen")


def wait_seen(page, count: int) -> list[dict]:
    page.page.wait_for_function("count => window.seen.notifications.length >= count", arg=count)
    return seen(page)["notifications"]


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_a_hidden_page_is_notified_once_with_a_different_sign_for_a_failure(open_page, frontend):
    page = recording(
        open_page,
        [
            LOAD,
            cell("good"),
            cell("bad", "1 / 0"),
            "gates['good'].set()",
            "gates['bad'].set()",
            "import time; time.sleep(8)",
        ],
        frontend,
    )
    assert seen(page)["asked"] == 0
    for index in (1, 2):
        page.run(index)
        page.wait_text(index, "running")
    page.page.wait_for_function("() => window.seen.asked === 1")
    page.page.evaluate("() => window.hide(true)")
    page.run(3)
    [good] = wait_seen(page, 1)
    assert good["title"] == "good: completed"
    assert page.page.title().startswith("(1) ")
    page.wait_text(1, "completed")
    page.run(4)
    page.start(5)  # the kernel is busy from here on
    bad = wait_seen(page, 2)[1]
    assert (bad["title"], bad["body"]) == ("bad: failed", "ZeroDivisionError: division by zero")
    assert bad["icon"] != good["icon"]
    assert page.page.title().startswith("(2) ")
    rising, falling = seen(page)["tones"][:2], seen(page)["tones"][2:]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True) and max(falling) < min(rising)
    page.page.evaluate("() => window.hide(false)")
    assert not page.page.title().startswith("(")
    page.wait_text(2, "failed")
    assert not page.has_broken_widget(1)


@pytest.mark.long
def test_a_batch_is_one_notification_and_a_visible_page_gets_none(open_page):
    page = recording(
        open_page,
        [
            LOAD,
            *(cell(f"n{n}", "1 / 0" if n == 3 else "pass") for n in range(7)),
            "for gate in list(gates.values()): gate.set()",
        ],
    )
    for n in range(7):
        page.run(1 + n)
        page.wait_text(1 + n, "running")
    page.page.evaluate("() => window.hide(true)")
    page.run(8)
    [notification] = wait_seen(page, 1)
    assert notification["title"] == "7 tasks finished, 1 failed"
    assert notification["body"].splitlines()[0] == "✖ n3" and notification["body"].endswith("and 2 more")
    page.page.evaluate("() => window.hide(false)")
    page.set_source(1, cell("again"))
    page.run(1)
    page.wait_text(1, "running")
    page.set_source(8, "gates['again'].set()")
    page.run(8)
    page.wait_text(1, "completed")
    # The panel is replaced once the notification is done.
    page.output(1).locator(".jupyter-widgets").first.wait_for(state="detached")
    assert len(seen(page)["notifications"]) == 1


@pytest.mark.long
@pytest.mark.reloads
def test_a_notification_comes_after_a_reload_and_only_once(open_page):
    page = recording(open_page, [LOAD, cell("it"), "gates['it'].set()"])
    page.run(1)
    page.wait_text(1, "running")
    page.save()
    page.reload()
    page.wait_text(1, "running")
    page.page.evaluate("() => { window.seen.asked = 1; window.hide(true); }")
    page.run(2)
    [notification] = wait_seen(page, 1)
    assert notification["title"] == "it: completed"
    page.wait_text(1, "completed")
    page.save()
    page.reload()
    page.wait_text(1, "completed")
    page.page.evaluate("() => window.hide(true)")
    page.run(2)
    assert seen(page)["notifications"] == []


def test_the_setting_notifies_of_every_task_that_ran_long_enough(open_page):
    page = recording(
        open_page,
        [
            LOAD + "\n%config BackgroundTasks.notify_after = 60\n%config BackgroundTasks.notify_sound = False",
            cell("short", options=""),
            cell("long", options=""),
            # As if it had started earlier: the test need not wait.
            "long.internals.started_at -= 60\nfor gate in list(gates.values()): gate.set()",
        ],
    )
    for index in (1, 2):
        page.run(index)
        page.wait_text(index, "running")
    page.page.evaluate("() => window.hide(true)")
    page.run(3)
    [notification] = wait_seen(page, 1)
    assert notification["title"] == "long: completed" and seen(page)["tones"] == []
