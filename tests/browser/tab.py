"""`Tab`: a page of the browser, lent to one notebook after the other."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

if TYPE_CHECKING:
    from tests.browser.lab import Lab

SIZE: ViewportSize = {"width": 1200, "height": 900}

# What lasts longer than this fails. It is long, for a machine may have much else to do.
TIME_LIMIT_MS = 180_000

OPEN = """async path => {
    const app = window.jupyterapp;
    const panel = await app.commands.execute('docmanager:open', { path, factory: 'Notebook' });
    await panel.context.ready;
    [...app.shell.widgets('main')].filter(widget => widget !== panel).forEach(widget => widget.dispose());
}"""

# Closes the documents, without a question. Whether the page is then as it was when it was new. Their kernels end after
# that: a notebook that is open when its kernel ends looks for the models of its widgets, and logs that they are gone.
CLEAR = """async () => {
    const app = window.jupyterapp;
    [...app.shell.widgets('main')].forEach(widget => widget.dispose());
    app.shell.collapseRight();
    app.shell.activateById('filebrowser');
    await new Promise(resolve => requestIdleCallback(resolve));
    return document.body.dataset.jpThemeName === 'JupyterLab Light'
        && !document.querySelector('.jp-Dialog, .lm-Menu, .Toastify__toast');
}"""


# JupyterLab saves its layout a moment after a change; a page that is loaded before that shows the last notebook.
LAYOUT_SAVED = """async ([workspace, path]) => {
    const { data } = await window.jupyterapp.serviceManager.workspaces.fetch(workspace);
    return data['layout-restorer:data']?.main?.current === `notebook:${path}`;
}"""


class Tab:
    """A context of the browser and its page, in which JupyterLab or Notebook 7 is.

    Loading JupyterLab costs ten times the CPU of opening a notebook in it, so a tab is used again (`clear`).
    """

    def __init__(self, lab: Lab, browser: Browser, *, scale: int, script: str, permissions: Sequence[str]) -> None:
        self.workspace = f"test-{uuid.uuid4().hex[:8]}"
        self.console: list[str] = []
        self._shown: str | None = None
        self._context = browser.new_context(viewport=SIZE, device_scale_factor=scale)
        self._context.set_default_timeout(TIME_LIMIT_MS)
        self._context.grant_permissions(list(permissions))
        self._context.add_init_script(script)
        self._context.set_extra_http_headers({"Authorization": f"token {lab.token}"})
        self.page = self.new_page()

    def new_page(self) -> Page:
        """Another page in place of the last one."""
        self.page = page = self._context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())  # leaves what was not saved
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self.console.append(f"{message.text} ({where})")

    @property
    def has_lab(self) -> bool:
        """Whether JupyterLab is loaded in it."""
        return "/lab/" in self.page.url

    def show(self, path: str) -> None:
        """Opens the notebook in the JupyterLab that is loaded, in place of what else is open."""
        self.page.evaluate(OPEN, path)
        self._shown = path

    def wait_layout_saved(self) -> None:
        """Waits until the page would show the same notebook again if it were loaded now."""
        if self._shown is not None and self.has_lab and not self.page.is_closed():
            self.page.wait_for_function(LAYOUT_SAVED, arg=[self.workspace, self._shown])

    def clear(self) -> bool:
        """Closes the notebook; False if the tab cannot be used for another one."""
        if self.page.is_closed() or len(self._context.pages) > 1:
            return False
        if not self.has_lab:
            self.page.goto("about:blank")
        elif not self.page.evaluate(CLEAR):
            return False
        self.page.mouse.move(0, 0)
        self.page.set_viewport_size(SIZE)
        self.page.emulate_media(reduced_motion="null")
        self._context.clear_permissions()
        self.console.clear()
        return True

    def close(self) -> None:
        """Closes its pages and forgets what they stored."""
        self._context.close()
