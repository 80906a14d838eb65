"""The moments at which a zone's clock jumps forward, leaving a gap, or back, repeating some wall times.

It must not know of cron.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["ClockChange", "is_irregular"]

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ClockChange:
    """One jump, by the wall times on both sides: the clock runs up to `before` and goes on at `after`."""

    before: datetime
    after: datetime

    @property
    def forward(self) -> timedelta:
        """The length of the gap; negative for a repeat."""
        return self.after - self.before

    @classmethod
    def around(cls, moment: datetime) -> ClockChange:
        """The jump that skips or repeats this wall time, for which `is_irregular` holds."""
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
    """Whether its zone's clock skips or shows twice the wall time of this aware moment."""
    return moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset()


def _offset(moment: datetime, fold: int) -> timedelta:
    offset = moment.replace(fold=fold).utcoffset()
    assert offset is not None
    return offset
