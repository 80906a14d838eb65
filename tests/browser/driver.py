"""`NotebookPage`: drives one notebook in JupyterLab or Notebook 7, in Chromium.

Nothing here is about nbtasks.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.tab import TIME_LIMIT_MS, Tab

if TYPE_CHECKING:
    from tests.browser.lab import Lab

HERE = Path(__file__).parent
SCREENSHOTS = HERE / "screenshots"
README_IMAGES = HERE.parent.parent / "docs" / "images"

# Runs in the page: the panel of the notebook, or null while there is none.
PANEL = """
const app = window.jupyterapp;
const panel = app && [...app.shell.widgets('main')].find(w => w.content && w.content.widgets && w.context);
"""

# Records what a script reads from an element of a cell's output area, frame by frame.
SAMPLER = f"""([name, index, selector, read]) => {{
    {PANEL}
    const valueOf = eval(read);
    const state = window[name] = {{ on: true, samples: [] }};
    const tick = () => {{
        if (!state.on) return;
        const element = panel.content.widgets[index].outputArea.node.querySelector(selector);
        const value = element ? valueOf(element) : null;
        if (!state.samples.length || state.samples.at(-1)[1] !== value) {{
            state.samples.push([performance.now(), value]);
        }}
        requestAnimationFrame(tick);
    }};
    tick();
}}"""

# What stock JupyterLab itself writes to the console as errors, whatever the notebook does.
STOCK_ERRORS = (
    "Cannot read properties of undefined (reading 'last_modified')",  # Notebook 7.0: a notebook without a checkpoint
    "Command 'filebrowser:open-path' not registered",  # Notebook 7 on JupyterLab's server
    "Cannot read properties of undefined (reading 'schema')",  # Notebook 7: settings of an absent plugin
    "Could not restore the debugger state",  # JupyterLab: the kernel has ended, or was connected again, meanwhile
    ".woff2)",  # Notebook 7 may ask for a font before it has the cookie that lets it in
    ".woff2",  # Notebook 7: a font that its own server refuses
)

Frontend = Literal["lab", "notebook"]
Sample = tuple[float, Any]


def notebook_json(sources: Iterable[str]) -> dict[str, Any]:
    """A notebook of code cells with these sources."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": uuid.uuid4().hex[:8],
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        for source in sources
    ]
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 5}


class Sampler:
    """Records in each frame what a script reads from an element; see `sample`."""

    def __init__(self, page: Page, name: str) -> None:
        self._page = page
        self._name = name

    def samples(self) -> list[Sample]:
        """(milliseconds since the page began, value) for each change so far; None while there was nothing."""
        read = "name => window[name].samples"
        return [(at, value) for at, value in self._page.evaluate(read, self._name)]

    def values(self) -> list[Any]:
        """The different values so far, in the order of their first appearance."""
        return list(dict.fromkeys(value for _, value in self.samples() if value is not None))

    def stop(self) -> list[Sample]:
        """Ends the recording and gives what it has."""
        self._page.evaluate("name => { window[name].on = false; }", self._name)
        return self.samples()


class NotebookPage:
    """One notebook, open in a page of the browser, with a kernel of its own.

    Cells are named by their position from 0. Waiting is always for a condition and fails after some minutes. The page
    is that of `tab`, in which another notebook may have been open before, or a new one: then `scale` is how many pixels
    a screenshot has for each of the page's, `script` runs in the page before all of its own scripts, and `permissions`
    are granted to it.
    """

    def __init__(
        self,
        lab: Lab,
        browser: Browser,
        *,
        frontend: Frontend = "lab",
        path: str | None = None,
        scale: int = 1,
        script: str = "",
        permissions: Sequence[str] = (),
        tab: Tab | None = None,
    ) -> None:
        self.lab = lab
        self.frontend = frontend
        self.path = path or f"notebook-{uuid.uuid4().hex[:8]}.ipynb"
        self.tab = tab or Tab(lab, browser, scale=scale, script=script, permissions=permissions)

    @property
    def page(self) -> Page:
        """Playwright's page."""
        return self.tab.page

    @property
    def console_errors(self) -> list[str]:
        """Errors in the browser's console and uncaught exceptions, without those of stock JupyterLab."""
        return [text for text in self.tab.console if not any(known in text for known in STOCK_ERRORS)]

    # ------------------------------------------------------------------------- open and close

    @property
    def file(self) -> Path:
        """The notebook file, as last saved."""
        return self.lab.root / self.path

    def open(self, notebook: Sequence[str] | Path) -> None:
        """Makes the notebook from cell sources, or copies it with what lies beside it, and opens it."""
        if isinstance(notebook, Path):
            shutil.copy(notebook, self.file)
        else:
            self.file.write_text(json.dumps(notebook_json(notebook)), encoding="utf-8")
        self.lab.reset_theme()
        used = self.frontend == "lab" and self.tab.has_lab
        if used:
            self.tab.show(self.path)
            self._wait_shown()
        else:
            self.goto()
        self.wait_kernel("idle")
        if used:  # what the end of the last notebook and its kernel has left there
            self.tab.console.clear()

    def goto(self) -> None:
        """Goes to the notebook's page, as with a bookmark."""
        path = quote(self.path)
        lab_url = f"{self.lab.url}/lab/workspaces/{self.tab.workspace}/tree/{path}"
        notebook_url = f"{self.lab.url}/notebooks/{path}"
        self.page.goto(f"{lab_url if self.frontend == 'lab' else notebook_url}?token={self.lab.token}")
        self._wait_shown()

    def reload(self) -> None:
        """Reloads the page, as F5 does. What was not saved is lost."""
        self.tab.wait_layout_saved()
        self.page.reload()
        self._wait_shown()

    def close(self) -> None:
        """Close the page; the kernel keeps running."""
        self.tab.wait_layout_saved()
        self.page.close(run_before_unload=False)

    def reopen(self) -> None:
        """Opens the notebook in a new page of the browser, after `close`."""
        self.tab.new_page()
        self.goto()

    def reopen_without_kernel(self) -> None:
        """Shuts the kernel down and opens the saved notebook in a new page, choosing no kernel for it."""
        self.close()
        self.lab.end_sessions(self.path)
        self.lab.forget_kernel(self.path)
        self.tab.new_page()
        self.goto()
        self.page.locator(".jp-Dialog-button", has_text="No Kernel").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")

    def reopen_with_new_kernel(self) -> None:
        """Shuts the kernel down and opens the saved notebook in a new page, which starts another one."""
        self.close()
        self.lab.end_sessions(self.path)
        self.reopen()
        self.wait_kernel("idle")

    def give_back(self) -> bool:
        """Closes the notebook and ends the kernel; False if the tab is of no further use, and closed."""
        if self.tab.clear():
            self.lab.end_sessions(self.path)
            return True
        self.dispose()
        return False

    def dispose(self) -> None:
        """Closes everything and ends the kernel. The notebook file stays."""
        self.tab.close()
        self.lab.end_sessions(self.path)

    def _wait_shown(self) -> None:
        self.page.wait_for_function(f"() => {{ {PANEL} return !!panel && panel.context.isReady; }}")
        self.cells.first.wait_for()
        if self.lab.sessions(self.path):  # a cell that was run before the page knows of it would start another kernel
            self.page.wait_for_function(f"() => {{ {PANEL} return !!panel.sessionContext.session?.kernel; }}")
        self._wait_splash_gone()

    def _wait_splash_gone(self) -> None:
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    # ---------------------------------------------------------------------------------- cells

    @property
    def cells(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell")

    def cell(self, index: int) -> Locator:
        """The whole cell: input and outputs."""
        return self.cells.nth(index)

    def output(self, index: int) -> Locator:
        """The cell's output area."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def button(self, index: int, name: str) -> Locator:
        """The button of that name in the cell's output area."""
        return self.output(index).get_by_role("button", name=name)

    def text(self, index: int) -> str:
        """What the cell's output area reads now."""
        # Off the screen JupyterLab has a cell not laid out, and it would read as empty.
        script = """output => {
            const style = output.closest('.jp-Cell').style, before = style.contentVisibility;
            style.contentVisibility = 'visible';
            const text = output.innerText;
            style.contentVisibility = before;
            return text;
        }"""
        return str(self.output(index).evaluate(script))

    def start(self, index: int) -> None:
        """Runs the cell without waiting for it."""
        script = f"""index => {{
            {PANEL}
            panel.content.deselectAll();
            panel.content.activeCellIndex = index;
            void app.commands.execute('notebook:run-cell');
        }}"""
        self.page.evaluate(script, index)

    def run(self, index: int) -> None:
        """Runs the cell and waits until it is done."""
        before = self._count(index)
        self.start(index)
        self.wait_done(index, after=before)

    def wait_done(self, index: int, *, after: int | None = None) -> None:
        """Waits until the cell has an execution count, other than `after` if given, and is not running."""
        script = f"""([index, after]) => {{
            {PANEL}
            const cell = panel.content.widgets[index];
            const count = cell.model.executionCount;
            return count !== null && count !== after && !cell.promptNode?.textContent.includes('*')
                && !cell.inputArea.promptNode.textContent.includes('*');
        }}"""
        self.page.wait_for_function(script, arg=[index, after])

    def select(self, index: int) -> None:
        """Makes the cell the active one, and the only one that is selected."""
        script = f"""index => {{
            {PANEL}
            panel.content.deselectAll();
            panel.content.activeCellIndex = index;
        }}"""
        self.page.evaluate(script, index)

    def active_cell(self) -> int:
        """The position of the active cell."""
        return int(self.page.evaluate(f"() => {{ {PANEL} return panel.content.activeCellIndex; }}"))

    def is_running(self, index: int) -> bool:
        """Whether the cell waits or runs, as its prompt shows it: `[*]`."""
        return "*" in (self.cell(index).locator(".jp-InputPrompt").text_content() or "")

    def set_source(self, index: int, source: str) -> None:
        """Replaces what the cell's editor holds."""
        script = f"""([index, source]) => {{
            {PANEL} panel.content.widgets[index].model.sharedModel.setSource(source);
        }}"""
        self.page.evaluate(script, [index, source])

    def wait_text(self, index: int, text: str) -> None:
        """Waits until the cell's output area contains the text."""
        expect(self.output(index)).to_contain_text(text, timeout=TIME_LIMIT_MS)

    def has_broken_widget(self, index: int) -> bool:
        """Whether the cell's output area shows a widget that has no model: loading forever, or an error."""
        text = self.output(index).text_content() or ""
        return "Loading widget" in text or "Error displaying widget" in text

    def _count(self, index: int) -> int | None:
        script = f"index => {{ {PANEL} return panel.content.widgets[index].model.executionCount; }}"
        count: int | None = self.page.evaluate(script, index)
        return count

    # --------------------------------------------------------------------------------- kernel

    def kernel_status(self) -> str:
        """`idle`, `busy`, `starting` and so on; `none` without a kernel.

        Without nbtasks, an answer on the control channel, where the debugger asks, makes it read `idle` in the middle
        of a cell: whether a cell runs, `is_running` tells.
        """
        script = f"() => {{ {PANEL} return panel.sessionContext.session?.kernel?.status ?? 'none'; }}"
        return str(self.page.evaluate(script))

    def wait_kernel(self, status: str) -> None:
        """Waits until the kernel has this status."""
        script = f"""status => {{
            {PANEL} return (panel?.sessionContext.session?.kernel?.status ?? 'none') === status;
        }}"""
        self.page.wait_for_function(script, arg=status)

    def interrupt(self) -> None:
        """Kernel > Interrupt."""
        self.command("kernelmenu:interrupt")

    def restart(self) -> None:
        """Restarts the kernel, as Kernel > Restart does when the question is answered with yes."""
        self.page.evaluate(f"async () => {{ {PANEL} await panel.sessionContext.restartKernel(); }}")
        self.wait_kernel("idle")

    # ----------------------------------------------------------------------------------- file

    def save(self) -> dict[str, Any]:
        """Saves the notebook as Ctrl+S does, and gives what the file then holds."""
        self.command("docmanager:save")
        return self.saved()

    def saved(self) -> dict[str, Any]:
        """What the file holds."""
        notebook: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return notebook

    def command(self, name: str) -> None:
        """Executes a command of the front end."""
        self.page.evaluate("async name => { await window.jupyterapp.commands.execute(name); }", name)

    # ----------------------------------------------------------------------------------- look

    def set_theme(self, theme: Literal["light", "dark"]) -> None:
        """Settings > Theme."""
        name = f"JupyterLab {theme.title()}"
        script = "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }"
        self.page.evaluate(script, name)
        self.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=name)
        self._wait_splash_gone()

    def set_size(self, width: int, height: int) -> None:
        """The size of the page in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def screenshot(self, name: str, of: Locator | None = None, *, for_readme: bool = False) -> Path:
        """An image of the page or of one element, saved under `screenshots`, or in the docs' images."""
        path = (README_IMAGES if for_readme else SCREENSHOTS) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if of is None:
            self.page.screenshot(path=path)
        else:
            of.screenshot(path=path)
        return path

    def sample(self, index: int, selector: str, read: str = "element => element.textContent") -> Sampler:
        """Starts to record, at every frame, the changes of what the script `read` gives of an element.

        The element is the first that the CSS selector finds in the cell's output area at that frame; the
        value is None while there is none.
        """
        name = f"sampler{uuid.uuid4().hex[:8]}"
        self.page.evaluate(SAMPLER, [name, index, selector, read])
        return Sampler(self.page, name)

    def watch_stalls(self) -> None:
        """Starts to record when the page's main thread stands still for 50 ms or longer."""
        self.page.evaluate("""() => {
            window.nbStalls = [];
            new PerformanceObserver(list => window.nbStalls.push(...list.getEntries().map(e => e.duration)))
                .observe({ type: 'longtask' });
        }""")

    def longest_stall(self) -> float:
        """The longest stall since `watch_stalls`, in milliseconds; 0 if there was none."""
        return float(self.page.evaluate("() => Math.max(0, ...window.nbStalls)"))
