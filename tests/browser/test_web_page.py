"""The page of the web interface, on a phone's screen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from nbtasks import Task, TaskManager
from nbtasks.web import Server, serve
from tests.browser.driver import SCREENSHOTS

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def server(manager: TaskManager) -> Iterator[Server]:
    server = serve(manager)
    yield server
    server.stop()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def row(page: Page, task: Task):
    return page.locator(f"li[data-id='{task.id}']")


def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=Path(SCREENSHOTS) / f"web-{name}.png", full_page=True)


def test_tasks_are_followed_and_cancelled(manager: TaskManager, server: Server, phone: Page, gate) -> None:
    half = threading.Event()

    def work(task: Task) -> None:
        task.progress, task.body = 50.0, "<b>epoch 3</b> of 6"
        half.set()
        while True:
            gate.wait(0.01)

    def broken() -> None:
        raise ValueError("no such column: <script>alert(1)</script>")

    fit = manager.create_task("fit", work)
    half.wait()
    phone.goto(server.address)
    assert "token" not in phone.url
    expect(row(phone, fit).locator(".state")).to_have_text("running 50%")
    expect(row(phone, fit).locator(".body")).to_have_text("<b>epoch 3</b> of 6")
    expect(phone.locator("#connection")).to_have_text("live")
    failed = manager.create_task("load", broken)
    expect(row(phone, failed).locator(".error")).to_contain_text("<script>alert(1)</script>")
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    picture(phone, "phone")
    row(phone, fit).get_by_role("button", name="Cancel fit").tap()
    expect(row(phone, fit).locator(".state")).to_have_text("cancelled")
    assert fit.state == "cancelled"
    expect(phone).to_have_title("nbtasks")


def drop_connections(server: Server) -> None:
    """Have the server end its connections, as a proxy or a network that fails does."""
    for connection in list(server._server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.abort)


def test_it_reconnects_and_shows_what_it_missed(manager: TaskManager, server: Server, phone: Page, gate) -> None:
    task = manager.create_task("waits", lambda: gate.wait())
    phone.goto(server.address)
    expect(row(phone, task).locator(".state")).to_have_text("running")
    phone.context.set_offline(True)
    drop_connections(server)
    expect(phone.locator("#connection")).to_have_class("lost")
    gate.set()
    task.wait()
    phone.context.set_offline(False)
    expect(row(phone, task).locator(".state")).to_have_text("completed", timeout=60_000)
    expect(phone.locator("#connection")).to_have_text("live")


def test_it_is_accessible_in_both_colour_schemes(manager: TaskManager, server: Server, browser: Browser, gate) -> None:
    manager.create_task("waits", gate.wait)
    manager.wait(manager.create_task("broken", lambda: 1 / 0))
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport=PHONE, color_scheme=scheme)
        page = context.new_page()
        page.goto(server.address)
        expect(page.locator("li")).to_have_count(2)
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        picture(page, scheme)
        context.close()
