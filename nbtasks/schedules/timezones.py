"""Time zones: by name or tzinfo, or the machine's own; their clock changes."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from nbtasks.exceptions import UnknownTimezoneError

__all__ = ["LOCAL", "ClockChange", "find_zone", "is_irregular", "is_steady", "local_zone_name", "zone_name"]

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A jump of the clock, from the wall time `before` to the wall time `after`."""

    before: datetime
    after: datetime

    @property
    def forward(self) -> timedelta:
        """The length of the gap; negative for a repeat."""
        return self.after - self.before

    @classmethod
    def around(cls, moment: datetime) -> ClockChange:
        """The jump that skips or repeats this wall time, which is irregular (see `is_irregular`)."""
        zone = moment.tzinfo
        assert zone is not None
        wall = moment.replace(tzinfo=None, fold=0, microsecond=0)
        old, new = _offset(moment, 0), _offset(moment, 1)
        # In UTC the jump is after `early`, not after `late`: fold=0 is the old clock and fold=1 the new.
        early, late = sorted((wall - old, wall - new))
        while late - early > SECOND:
            middle = early + timedelta(seconds=(late - early) // SECOND // 2)
            if zone.fromutc(middle.replace(tzinfo=zone)).utcoffset() == old:
                early = middle
            else:
                late = middle
        return cls(before=late + old, after=late + new)


def is_irregular(moment: datetime) -> bool:
    """Whether the clock skips or repeats the wall time of this aware moment."""
    return moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset()


def _offset(moment: datetime, fold: int) -> timedelta:
    offset = moment.replace(fold=fold).utcoffset()
    assert offset is not None
    return offset


class LocalZone(tzinfo):
    """The machine's own zone, by the operating system: it needs no zone data."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """The offset that holds at this wall time; in a gap or a repeat `fold` says which of the two."""
        if moment is None:
            return None
        # Not by `astimezone`, which since Python 3.12 moves a time out of a gap and gives the offset there.
        wall = moment.replace(tzinfo=None, microsecond=0)
        return wall.replace(tzinfo=UTC) - datetime.fromtimestamp(wall.timestamp(), UTC)

    def dst(self, moment: datetime | None) -> timedelta | None:  # noqa: ARG002  (tzinfo's signature)
        """Unknown: the operating system has the offset, not the part of it that is summer time."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """The abbreviation that the operating system has for it, as CET."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """The wall time of this UTC time, with `fold` set in the second pass of a repeated time."""
        there = moment.replace(tzinfo=UTC).astimezone()
        here = there.replace(tzinfo=self, fold=0)
        return here if here.utcoffset() == there.utcoffset() else here.replace(fold=1)

    def __repr__(self) -> str:
        return "LOCAL"

    def __reduce__(self) -> str:
        return "LOCAL"


LOCAL = LocalZone()


def find_zone(zone: str | tzinfo | None) -> tzinfo:
    """The zone of that name, the tzinfo itself, or the machine's own zone for None and "local".

    Raises UnknownTimezoneError, which names the nearest zones there are.
    """
    if zone is None or zone == "local":
        return LOCAL
    if isinstance(zone, tzinfo):
        # pytz's zones answer for 1900 unless each time passes through their `localize`.
        name = getattr(zone, "zone", None)
        return find_zone(name) if isinstance(name, str) and hasattr(zone, "localize") else zone
    if not isinstance(zone, str):
        raise UnknownTimezoneError(
            f"a time zone is a name such as 'Europe/Paris', a tzinfo, or None for local time: {zone!r} is not"
        )
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise UnknownTimezoneError(_unknown(zone)) from error


def zone_name(zone: tzinfo) -> str:
    """A name that `find_zone` takes back wherever the zone has one: "local", "Europe/Paris"."""
    return "local" if zone is LOCAL else str(getattr(zone, "key", zone))


def local_zone_name() -> str | None:
    """The IANA name of the machine's own zone, by `TZ` or /etc/localtime; None if neither has it."""
    name = os.environ.get("TZ", "").lstrip(":") or os.path.realpath("/etc/localtime").rpartition("zoneinfo/")[2]
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
    now = datetime.now(UTC)
    moments = [now + timedelta(days=day) for day in range(0, 366, 7)]
    same = all(moment.astimezone(zone).utcoffset() == moment.astimezone(LOCAL).utcoffset() for moment in moments)
    return name if same else None


def is_steady(zone: tzinfo) -> bool:
    """Whether the clock of the zone never changes, as far as is known."""
    return type(zone) is type(UTC) or getattr(zone, "key", None) in ("UTC", "Etc/UTC")


def _unknown(name: str) -> str:
    known = available_timezones()
    if not known:
        return f"unknown time zone {name!r}: this machine has no time zone data (`pip install tzdata`)"
    nearest = _nearest(name, known)
    hint = f"; the nearest are {', '.join(nearest)}" if nearest else "; names look like Europe/Paris"
    return f"unknown time zone {name!r}{hint}"


def _nearest(name: str, known: set[str]) -> list[str]:
    """Up to three zones whose name, or whose city alone, is close to this name."""
    wanted = name.strip().lower().replace(" ", "_")
    spellings: dict[str, list[str]] = {}
    for zone in sorted(known):
        spelling = zone.lower()
        for key in {spelling, spelling.rpartition("/")[2]}:
            spellings.setdefault(key, []).append(zone)
    close = difflib.get_close_matches(wanted, spellings, n=3, cutoff=0.7)
    return list(dict.fromkeys(zone for spelling in close for zone in spellings[spelling]))[:3]
