"""Cells that run as tasks: source, names, errors, schedules."""
