"""The IPython extension: magics, cells that run as tasks, and their output."""
