"""The widgets of one view: made, written to, and all of them closed.

Knows nothing of what they show. Used on the live writer's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

__all__ = ["Parts", "put"]


def put(widget: Any, **traits: Any) -> int:
    """Give these traits these values; how many messages that took: 1, or 0 where all had them."""
    changed = {name: value for name, value in traits.items() if getattr(widget, name) != value}
    if not changed:
        return 0
    with widget.hold_sync():
        for name, value in changed.items():
            setattr(widget, name, value)
    return 1


class Parts:
    """Makes widgets. Those that look the same share a layout and a style, which are models of their own."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[tuple[str, str], ...], Any] = {}
        self._styles: dict[tuple[type, tuple[tuple[str, str], ...]], Any] = {}
        self._widgets: list[Any] = []

    def layout(self, **traits: str) -> Any:
        """The layout with these traits and no margin; shared, and not to be changed."""
        key = tuple(sorted({"margin": "0", **traits}.items()))
        if key not in self._layouts:
            self._layouts[key] = ipywidgets.Layout(**dict(key))
        return self._layouts[key]

    def html(self, value: str = "", **layout: str) -> Any:
        """An HTML widget."""
        return self.make(ipywidgets.HTML, layout, value=value)

    def button(
        self,
        description: str = "",
        tooltip: str = "",
        on_click: Callable[[], object] | None = None,
        *,
        icon: str = "",
        **layout: str,
    ) -> Any:
        """A button. One with no more than an icon is named by its tooltip."""
        shape = {"width": "auto", "height": "26px", "flex": "0 0 auto", **layout}
        button = self.make(ipywidgets.Button, shape, description=description, tooltip=tooltip, icon=icon)
        if on_click is not None:
            button.on_click(lambda _button: on_click())
        return button

    def text(self, description: str, description_width: str, layout: dict[str, str], **traits: Any) -> Any:
        """A field of text."""
        style = {"description_width": description_width}
        return self.make(ipywidgets.Text, layout, style=style, description=description, **traits)

    def choice(self, options: Sequence[tuple[str, Any]], layout: dict[str, str], tooltip: str) -> Any:
        """A list to choose one of, each as what is shown and what it means."""
        return self.make(ipywidgets.Dropdown, layout, style={}, options=list(options), tooltip=tooltip)

    def combo(
        self, description: str, description_width: str, options: Sequence[str], layout: dict[str, str], **traits: Any
    ) -> Any:
        """A field of text that offers these."""
        style = {"description_width": description_width}
        return self.make(
            ipywidgets.Combobox, layout, style=style, description=description, options=tuple(options), **traits
        )

    def row(self, *children: Any, **layout: str) -> Any:
        """Widgets side by side."""
        return self.make(ipywidgets.HBox, layout, children=children)

    def column(self, *children: Any, **layout: str) -> Any:
        """Widgets one below the other."""
        return self.make(ipywidgets.VBox, layout, children=children)

    def close(self) -> None:
        """Close every widget that was made, with its layout and style."""
        for widget in (*reversed(self._widgets), *self._layouts.values(), *self._styles.values()):
            widget.close()
        self._widgets, self._layouts, self._styles = [], {}, {}

    def make(self, kind: Any, layout: dict[str, str], style: dict[str, str] | None = None, **traits: Any) -> Any:
        """A widget of that kind."""
        if "style" in kind.class_traits():
            look = (kind, tuple(sorted((style or {}).items())))
            if look not in self._styles:
                self._styles[look] = kind.class_traits()["style"].klass(**dict(look[1]))
            traits["style"] = self._styles[look]
        widget = kind(layout=self.layout(**layout), **traits)
        self._widgets.append(widget)
        return widget
