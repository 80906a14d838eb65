"""`NotebookParts`: what nbtasks has of a notebook from `%load_ext` on."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.manager import get_manager
from nbtasks.notebook.cells.context_variables import NotebookVariables
from nbtasks.notebook.cells.namespace import NotebookNames
from nbtasks.notebook.cells.notebook_libraries import NotebookLibraries
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.output.publisher import Publisher
from nbtasks.notebook.settings import BackgroundTasks

__all__ = ["NotebookParts"]


class NotebookParts:
    """What nbtasks has of a notebook from `%load_ext` on.

    The rest is in `NotebookSession`, which is made at its first use. The fields are set once.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.kernel = Kernel(shell)
        self.manager = get_manager(loop=self.kernel.loop)
        self.manager.loop_backend.passing_loop = self.kernel.passing_loop
        self.names = NotebookNames(shell.user_ns)
        self.variables = NotebookVariables()
        self.libraries = NotebookLibraries()
        self.publisher = Publisher()
        self.settings = BackgroundTasks(parent=shell)
