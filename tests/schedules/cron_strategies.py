"""Random cron expressions for property tests, with the values of their fields."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.schedules.cron_oracle import Job

Text = tuple[str, frozenset[int]]


@st.composite
def items(draw: st.DrawFn, low: int, high: int) -> Text:
    """One member of a list: a value, a range, or a range, start or star with a step."""
    first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    step = draw(st.integers(1, high))
    kind = draw(st.sampled_from(["value", "value", "range", "stepped range", "start", "star"]))
    if kind == "value":
        return str(first), frozenset({first})
    if kind == "start":
        return f"{first}/{step}", frozenset(range(first, high + 1, step))
    if kind == "star":
        return f"*/{step}", frozenset(range(low, high + 1, step))
    if kind == "range" or first == last:  # cronsim reads 5-5/10 as 5/10
        return f"{first}-{last}", frozenset(range(first, last + 1))
    return f"{first}-{last}/{step}", frozenset(range(first, last + 1, step))


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> Text:
    """A whole field."""
    if draw(st.booleans()):
        return "*", frozenset(range(low, high + 1))
    members = draw(st.lists(items(low, high), min_size=1, max_size=3))
    return ",".join(text for text, _ in members), frozenset().union(*(values for _, values in members))


@st.composite
def jobs(draw: st.DrawFn, *, hours: st.SearchStrategy[Text] | None = None) -> Job:
    """An expression of five fields, its days mostly unrestricted, so that times of day matter."""
    any_day = st.just(("*", frozenset(range(1, 32))))
    any_month = st.just(("*", frozenset(range(1, 13))))
    any_weekday = st.just(("*", frozenset(range(7))))
    minute = draw(fields(0, 59))
    hour = draw(fields(0, 23) if hours is None else hours)
    day = draw(any_day | fields(1, 31))
    month = draw(any_month | fields(1, 12))
    text, values = draw(any_weekday | fields(0, 7))
    weekday = text, frozenset(value % 7 for value in values)
    parts = (minute, hour, day, month, weekday)
    texts = (minute[0], hour[0], day[0], month[0], weekday[0])
    return Job(*(values for _, values in parts), texts=texts)
