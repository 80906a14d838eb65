"""The fields in which a schedule is typed, chosen and applied: an expression, presets, a time zone.

Written by the live writer's thread only; what is typed and clicked arrives on other threads. Knows no recurring task.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from nbtasks.exceptions import NbtasksError
from nbtasks.recurring.rules import Rules
from nbtasks.widgets.parts import Parts, put
from nbtasks.widgets.recurring_shown import span_text
from nbtasks.widgets.schedule_draft import Draft, fires_text, preset_choices, read_draft, zone_names
from nbtasks.widgets.shown import LOOKS

__all__ = ["ScheduleEditor", "fires_told"]

Typed = tuple[str, str]
"""An expression and a zone."""
GAP = {"margin": "0 6px 4px 0", "height": "28px"}


class ScheduleEditor:
    """Fields for one schedule. `apply` is given what was typed, on any thread; what it raises of ours is shown."""

    def __init__(
        self, parts: Parts, words: str, tooltip: str, apply: Callable[[str, str], object], wake: Callable[[], None]
    ) -> None:
        self._apply = apply
        self._wake = wake
        self._given: Typed | None = None
        self._draft: Draft | None = None
        self._rules: Rules | None = None
        self._refused: tuple[Typed, str] | None = None
        self._applied = False
        self._expression = parts.text(
            "Schedule", "62px", {"width": "250px", **GAP}, placeholder="*/5 * * * *, @hourly, 90s"
        )
        self._expression.tooltip = "A cron expression of five fields, or of six with seconds first; or an interval"
        self._presets = parts.choice(
            [("Presets", ""), *preset_choices()], {"width": "96px", **GAP}, "Schedules that many use"
        )
        self._zone = parts.combo("Zone", "38px", zone_names(), {"width": "210px", **GAP}, value="local")
        self._zone.tooltip = "The time zone of a cron expression; local is that of the kernel's machine"
        self._button = parts.button(words, tooltip, self.apply, **GAP)
        self.fields = (self._expression, self._presets, self._zone, self._button)
        self.note = parts.html(margin="0 0 2px 0")
        for field in (self._expression, self._presets, self._zone):
            field.observe(lambda _change: wake(), names="value")
        # Enter in a field of text; `on_submit` is deprecated.
        for field in (self._expression, self._zone):
            field.on_msg(lambda _widget, content, _buffers: self._heard(content))

    @property
    def typed(self) -> Typed:
        """What the fields hold."""
        return self._expression.value.strip(), self._zone.value.strip() or "local"

    @property
    def edited(self) -> bool:
        """Whether that differs from the schedule that there is."""
        return self.typed != self._given

    def apply(self) -> None:
        """Have what was typed take effect. On any thread."""
        typed = self.typed
        if typed[0] and self.edited:
            try:
                self._apply(*typed)
            except NbtasksError as error:
                self._refused = typed, str(error)
            else:
                self._refused, self._applied = None, True
        self._wake()

    def _heard(self, content: Any) -> None:
        if isinstance(content, dict) and content.get("event") == "submit":
            self.apply()

    def refresh(self, given: Typed | None, now: datetime, told: str = "", rules: Rules | None = None) -> int:
        """Show the schedule that there is, if it is another one, and what the typed one means; how many messages.

        `told` is what there is to say as long as nothing else is typed; `rules` are those of the recurring task.
        """
        sent = 0
        applied, self._applied = self._applied, False
        if given is not None and (given != self._given or applied):
            sent += put(self._expression, value=given[0]) + put(self._zone, value=given[1])
            self._refused = None
        self._given = given
        if self._presets.value:
            sent += put(self._expression, value=self._presets.value) + put(self._presets, value="")
        draft = self._read(now, rules)
        edited = self.edited and bool(draft.expression)
        error = draft.error if edited else ""
        ready = edited and not error
        if not error and self._refused is not None and self._refused[0] == (draft.expression, draft.zone):
            error = self._refused[1]
        text = fires_told(draft.words, "would fire", draft.fires, now) if edited else told
        sent += put(self.note, value=_error_html(error) if error else _html(text))
        return sent + put(self._button, disabled=not ready)

    def _read(self, now: datetime, rules: Rules | None) -> Draft:
        """What was typed, checked: once, and again where its time has gone on."""
        typed, draft = self.typed, self._draft
        gone = draft is not None and bool(draft.fires) and draft.fires[0] <= now
        if draft is None or gone or (draft.expression, draft.zone) != typed or self._rules != rules:
            draft, self._rules = read_draft(*typed, now, rules), rules
            self._draft = draft
        return draft


def fires_told(words: str, verb: str, fires: Sequence[datetime], now: datetime) -> str:
    """A schedule in words, how long until the first of these fires, and when they are."""
    if not fires:
        return words
    span = span_text((fires[0].astimezone(UTC) - now).total_seconds())
    return f"{words} · {verb} in {span}: {fires_text(fires, now)}"


def _html(text: str) -> str:
    style = "white-space:normal;overflow-wrap:anywhere;font-variant-numeric:tabular-nums"
    return f'<div style="{style}">{html.escape(text)}</div>' if text else ""


def _error_html(error: str) -> str:
    sign, _, colour = LOOKS["failed"]
    return (
        f'<div role="alert" style="white-space:normal;overflow-wrap:anywhere">'
        f'<span style="color:{colour}" aria-hidden="true">{sign}</span> {html.escape(error)}</div>'
    )
