"""Widget factory: makes the ipywidgets of one view, and closes all of them.

Used on the live writer's thread only; clicks arrive on other threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets

from nbtasks.widgets.html import BAR_HEIGHT, TRACK_COLOUR, VIEW_WIDTH, style_html

__all__ = ["ClickGuard", "Confirmation", "Pager", "StateFilters", "WidgetFactory", "update", "widget_bundle"]

STALE_CLICK_SECONDS = 0.3
"""A click this soon after controls were given another task was meant for the task before."""
CONFIRM_SECONDS = 6.0
"""How long a click waits for the second one that confirms it."""


def update(widget: Any, **traits: Any) -> int:
    """Set these traits in one message if any differs; returns the number of messages, 0 or 1."""
    changed = {name: value for name, value in traits.items() if getattr(widget, name) != value}
    if not changed:
        return 0
    with widget.hold_sync():
        for name, value in changed.items():
            setattr(widget, name, value)
    return 1


def widget_bundle(widget: Any, fallback: dict[str, Any]) -> dict[str, Any]:
    """The mime bundle that shows a widget, and the fallback in viewers without widgets."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, **fallback}


class WidgetFactory:
    """Makes widgets. Those that look the same share a layout and a style."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[tuple[str, str], ...], Any] = {}
        self._styles: dict[tuple[type, tuple[tuple[str, str], ...]], Any] = {}
        self._widgets: list[Any] = []
        self._own_models: list[Any] = []

    def html(self, value: str = "", **layout: str) -> Any:
        """An HTML widget."""
        return self._make(ipywidgets.HTML, layout, value=value)

    def style_sheet(self) -> Any:
        """A hidden widget with the style sheet of all views."""
        return self.html(style_html(), display="none")

    def button(
        self,
        description: str = "",
        tooltip: str = "",
        on_click: Callable[[], object] | None = None,
        *,
        icon: str = "",
        **layout: str,
    ) -> Any:
        """A button. `on_click` may be called on any thread."""
        shape = {"width": "auto", "height": "24px", "flex": "0 0 auto", **layout}
        button = self._make(ipywidgets.Button, shape, description=description, tooltip=tooltip, icon=icon)
        if on_click is not None:
            button.on_click(lambda _button: on_click())
        return button

    def toggle(
        self, description: str, tooltip: str, on_change: Callable[[], object], *, value: bool = False, **layout: str
    ) -> Any:
        """A button that stays pressed. `on_change` may be called on any thread."""
        shape = {"width": "auto", "height": "24px", "flex": "0 0 auto", **layout}
        toggle = self._make(ipywidgets.ToggleButton, shape, description=description, tooltip=tooltip, value=value)
        toggle.observe(lambda _change: on_change(), names="value")
        return toggle

    @staticmethod
    def name_toggle(toggle: Any, what: str) -> int:
        """Have the tooltip say what a click does.

        Without the JupyterLab extension, screen readers learn of no other sign that the button is pressed.
        """
        return update(toggle, tooltip=f"{'Hide' if toggle.value else 'Show'} {what}")

    def text(self, description: str, description_width: str, layout: dict[str, str], **traits: Any) -> Any:
        """A text field."""
        style = {"description_width": description_width}
        return self._make(ipywidgets.Text, layout, style, description=description, **traits)

    def choice(self, options: Sequence[tuple[str, Any]], layout: dict[str, str], tooltip: str) -> Any:
        """A drop-down list of (label, value) pairs."""
        return self._make(ipywidgets.Dropdown, layout, options=list(options), tooltip=tooltip)

    def combo(
        self, description: str, description_width: str, options: Sequence[str], layout: dict[str, str], **traits: Any
    ) -> Any:
        """A text field that suggests the options."""
        style = {"description_width": description_width}
        return self._make(ipywidgets.Combobox, layout, style, description=description, options=tuple(options), **traits)

    def progress_bar(self) -> Any:
        """A progress bar from 0 to 100, with a style of its own for its colour."""
        style = ipywidgets.FloatProgress.class_traits()["style"].klass()
        self._own_models.append(style)
        layout = {"width": "auto", "height": f"{BAR_HEIGHT}px"}
        return self._make(ipywidgets.FloatProgress, layout, style=style, min=0.0, max=100.0)

    def output(self, **layout: str) -> Any:
        """An Output widget with a layout of its own, which may change."""
        own = ipywidgets.Layout(**layout)
        self._own_models.append(own)
        widget = ipywidgets.Output(layout=own)
        self._widgets.append(widget)
        return widget

    def kept_output(self) -> Any:
        """A hidden Output widget for the output of a task."""
        # The line on its left sets it apart from the cell's own output, which often follows.
        return self.output(
            display="none",
            max_height="400px",
            overflow="auto",
            margin="6px 0 0 0",
            padding="0 0 0 6px",
            border_left=f"3px solid {TRACK_COLOUR}",
        )

    def row(self, *children: Any, **layout: str) -> Any:
        """Widgets side by side."""
        return self._make(ipywidgets.HBox, layout, children=children)

    def column(self, *children: Any, **layout: str) -> Any:
        """Widgets one below the other."""
        return self._make(ipywidgets.VBox, layout, children=children)

    def view(self, css_class: str) -> Any:
        """The outermost widget of a view."""
        view = self.column(width="100%", max_width=f"{VIEW_WIDTH}px", padding="0 0 6px 6px")
        view.add_class(css_class)
        return view

    def close(self) -> None:
        """Close all widgets with their layouts and styles."""
        models = (*reversed(self._widgets), *self._layouts.values(), *self._styles.values(), *self._own_models)
        for model in models:
            model.close()
        self._widgets, self._layouts, self._styles, self._own_models = [], {}, {}, []

    def _make(self, kind: Any, layout: dict[str, str], style: Any = None, **traits: Any) -> Any:
        if "style" in kind.class_traits():
            traits["style"] = style if isinstance(style, ipywidgets.Widget) else self._shared_style(kind, style or {})
        widget = kind(layout=self._shared_layout(layout), **traits)
        self._widgets.append(widget)
        return widget

    def _shared_layout(self, traits: dict[str, str]) -> Any:
        """The layout with these traits and, by default, no margin; it must not be changed."""
        key = tuple(sorted({"margin": "0", **traits}.items()))
        if key not in self._layouts:
            self._layouts[key] = ipywidgets.Layout(**dict(key))
        return self._layouts[key]

    def _shared_style(self, kind: Any, traits: dict[str, str]) -> Any:
        key = (kind, tuple(sorted(traits.items())))
        if key not in self._styles:
            self._styles[key] = kind.class_traits()["style"].klass(**traits)
        return self._styles[key]


class Pager:
    """Buttons that turn pages, and the position between them."""

    def __init__(self, factory: WidgetFactory, turn: Callable[[int], None]) -> None:
        self.previous = factory.button("Previous", "Previous page", lambda: turn(-1), margin="0 8px 0 0")
        self.next = factory.button("Next", "Next page", lambda: turn(1), margin="0 0 0 8px")
        self.position = factory.html()
        self.widget = factory.row(self.previous, self.position, self.next, align_items="center", padding="6px 0 0 0")

    def show(self, page: int, pages: int, rows: range, total: int) -> int:
        """Show that these rows of `total` are on this page; returns the number of messages."""
        text = f"{rows.start + 1:,} to {rows.stop:,} of {total:,}"
        sent = update(self.position, value=f"<span>{text}</span>")
        return sent + update(self.previous, disabled=page == 0) + update(self.next, disabled=page == pages - 1)


class StateFilters:
    """Buttons that choose which states a list shows, each with a count.

    None stands for all states. `choose` is called with the state of the button that was clicked, on any thread.
    """

    def __init__(
        self, factory: WidgetFactory, tooltips: Mapping[str | None, str], choose: Callable[[str | None], None]
    ) -> None:
        self.buttons = {
            state: factory.button(on_click=partial(choose, state), tooltip=tooltip, margin="0 6px 4px 0")
            for state, tooltip in tooltips.items()
        }
        self.widget = factory.row(*self.buttons.values(), flex_flow="wrap", width="100%")

    def show(self, chosen: str | None, counts: Mapping[str | None, str]) -> int:
        """Mark the chosen state, and show the count of each; returns the number of messages."""
        sent = 0
        for state, button in self.buttons.items():
            is_chosen = state == chosen
            label = f"{'✓ ' if is_chosen else ''}{state or 'all'} {counts[state]}"
            classes = ("nbtasks-chip", "nbtasks-chosen") if is_chosen else ("nbtasks-chip",)
            sent += update(button, description=label, _dom_classes=classes)
        return sent


class Confirmation:
    """A click that takes effect when it is repeated within some seconds."""

    def __init__(self) -> None:
        self._until = float("-inf")

    @property
    def pending(self) -> bool:
        """Whether the first click waits for the second one; true until `click`, `expire` or `reset`."""
        return self._until > float("-inf")

    def click(self) -> bool:
        """Whether this is the second click."""
        now = time.monotonic()
        confirmed = now < self._until
        self._until = float("-inf") if confirmed else now + CONFIRM_SECONDS
        return confirmed

    def expire(self) -> None:
        """Forget a first click that has waited too long."""
        if time.monotonic() >= self._until:
            self.reset()

    def reset(self) -> None:
        """Forget the first click."""
        self._until = float("-inf")


class ClickGuard:
    """Detects clicks that were meant for the task shown a moment ago."""

    def __init__(self) -> None:
        self._reused_at = float("-inf")

    def reused(self) -> None:
        """The controls show another task from now on."""
        self._reused_at = time.monotonic()

    @property
    def stale(self) -> bool:
        """Whether a click now was meant for the task before."""
        return time.monotonic() - self._reused_at < STALE_CLICK_SECONDS
