"""nbtasks in IPython and Jupyter: the extension, its magics, and cells that run as tasks."""
