"""Fires of jobs by jupyter-scheduler itself, in an environment that has it.

stdin: JSON, a list of {"definition": ..., "start": ..., "count": ...}; stdout: a list of lists of ISO times in UTC.
"""

import datetime as dt
import json
import sys
import warnings

warnings.simplefilter("ignore")

from jupyter_scheduler import utils  # noqa: E402
from jupyter_scheduler.models import CreateJobDefinition  # noqa: E402


class Clock(dt.datetime):
    """What `compute_next_run_time` asks for the time."""

    moment: dt.datetime

    @classmethod
    def now(cls, tz: "dt.tzinfo | None" = None) -> dt.datetime:
        return cls.moment.astimezone(tz)


def fires(definition: dict, start: str, count: int) -> list[str]:
    model = CreateJobDefinition(runtime_environment_parameters=None, **definition)
    Clock.moment = dt.datetime.fromisoformat(start)
    times = []
    for _ in range(count):
        milliseconds = utils.compute_next_run_time(model.schedule, model.timezone)
        Clock.moment = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
        times.append(Clock.moment.isoformat())
    return times


utils.datetime = Clock
json.dump([fires(**case) for case in json.load(sys.stdin)], sys.stdout)
