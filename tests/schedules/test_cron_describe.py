"""Cron expressions in words."""

from __future__ import annotations

import pytest

from nbtasks.schedules import CronSchedule


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("0,5,10,15,20,25,30,35,40,45,50,55 * * * *", "Every 5 minutes"),
        ("*/7 * * * *", "Every 7 minutes from minute 0 to 56"),
        ("5/15 * * * *", "Every 15 minutes from minute 5 to 50"),
        ("0-30 * * * *", "Every minute from minute 0 to 30"),
        ("59/15 * * * *", "At minute 59 of every hour"),
        ("1,5 * * * *", "At minutes 1 and 5 of every hour"),
        ("0 * * * *", "Every hour"),
        ("@hourly", "Every hour"),
        ("0 */2 * * *", "Every 2 hours"),
        ("0 9-17 * * *", "Every hour from 09:00 to 17:00"),
        ("0 1,2,5,7,8,9,10 * * *", "At 01:00, 02:00, 05:00, 07:00, 08:00, 09:00 and 10:00"),
        ("30 */2 * * *", "At minute 30 of every 2nd hour"),
        ("* 2 * * *", "Every minute from 02:00 to 02:59"),
        ("*/15 9-17 * * *", "Every 15 minutes from 09:00 to 17:59"),
        ("*/7 9-17 * * *", "Every 7 minutes from minute 0 to 56 of hours 9 to 17"),
        ("*/15 9,13 * * *", "Every 15 minutes of hours 9 and 13"),
        ("5 4 * * *", "At 04:05"),
        ("0,30 2 * * *", "At 02:00 and 02:30"),
        ("0 8 * * 1-5", "At 08:00, Monday to Friday"),
        ("0 8 * * 1,3", "At 08:00, on Monday and Wednesday"),
        ("0 0 * * FRI-SUN", "At 00:00, Friday to Sunday"),
        ("0 0 * * 7", "At 00:00, on Sunday"),
        ("0 0 1 * *", "At 00:00, on day 1 of the month"),
        ("0 0 1-7,15 * *", "At 00:00, on days 1 to 7 and 15 of the month"),
        ("0 0 */2 * *", "At 00:00, on every 2nd day of the month"),
        ("0 0 1,15 * 5", "At 00:00, on days 1 and 15 of the month or on Friday"),
        ("0 0 */2 * 1", "At 00:00, on every 2nd day of the month if it is Monday"),
        ("0 0 1-7 * */7", "At 00:00, on days 1 to 7 of the month if it is Sunday"),
        ("0 0 1-31 * 5", "At 00:00"),
        ("0 0 L * *", "At 00:00, on the last day of the month"),
        ("0 0 L-3 * *", "At 00:00, on the 4th day from the end of the month"),
        ("0 0 15W * *", "At 00:00, on the working day nearest to day 15 of the month"),
        ("0 0 LW * *", "At 00:00, on the last working day of the month"),
        ("0 0 * * 5#2", "At 00:00, on the second Friday of the month"),
        ("0 0 * * 1,5L", "At 00:00, on Monday and the last Friday of the month"),
        ("0 0 29 2 *", "At 00:00, on day 29 of the month, in February"),
        ("0 12 * 6-8,12 *", "At 12:00, in June to August and December"),
        ("* * * * * *", "Every second"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("30 * * * * *", "At second 30 of every minute"),
        ("30 0 8 * * *", "At 08:00:30"),
        ("*/10 30 2 * * *", "Every 10 seconds of minute 30 of hour 2"),
        ("*/10 * 9-17 * * *", "Every 10 seconds from 09:00 to 17:59"),
        ("*/10 */20 * * * *", "Every 10 seconds of every 20th minute of every hour"),
    ],
)
def test_an_expression_in_words(expression, words):
    assert CronSchedule(expression, "UTC").describe() == words
