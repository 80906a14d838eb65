"""Recurring tasks: a schedule with a template task, whose every fire makes an instance.

Must not know the manager: its scheduler is handed what makes tasks. Imports nothing by itself, for most kernels never
have a schedule.
"""
