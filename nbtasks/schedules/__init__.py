"""Schedules: cron expressions, intervals, and the recurring tasks that they fire."""

from __future__ import annotations

from nbtasks.schedules.cron import CronSchedule
from nbtasks.schedules.cron_syntax import ALIASES
from nbtasks.schedules.fire_counts import count_fires, last_fire
from nbtasks.schedules.interval import IntervalSchedule, format_interval, parse_interval
from nbtasks.schedules.parse import PRESETS, Schedule, next_fire_times, parse_schedule
from nbtasks.schedules.timezones import find_zone, zone_name

__all__ = [
    "ALIASES",
    "PRESETS",
    "CronSchedule",
    "IntervalSchedule",
    "Schedule",
    "count_fires",
    "find_zone",
    "format_interval",
    "last_fire",
    "next_fire_times",
    "parse_interval",
    "parse_schedule",
    "zone_name",
]
