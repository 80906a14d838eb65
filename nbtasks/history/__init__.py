"""The history: a record of tasks and schedules, in SQLite, that outlives the kernel.

It must not know the manager, which hands it what changed, nor Jupyter, which decides where the file is. A file that is
locked, full or broken costs a warning and the history, never a task. Imports nothing by itself: not every process keeps
one.
"""
