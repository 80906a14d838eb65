"""`nbtasks run`: run a notebook without a front end, and stay for its schedules."""
