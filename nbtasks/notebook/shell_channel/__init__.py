"""Which thread serves the requests of the shell channel: the main thread, or another while a cell is away."""
