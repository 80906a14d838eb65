"""The history: tasks and schedules, recorded in a file that outlives the kernel."""
