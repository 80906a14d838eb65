"""`NotebookParts`: what nbtasks has of a notebook from `%load_ext` on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.interactiveshell import InteractiveShell

from nbtasks.first_use import FirstUse
from nbtasks.manager import get_manager
from nbtasks.notebook.cells.context_variables import NotebookVariables
from nbtasks.notebook.cells.foreground import Foreground
from nbtasks.notebook.cells.notebook_libraries import NotebookLibraries
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.output.publisher import Publisher
from nbtasks.notebook.settings import BackgroundTasks

if TYPE_CHECKING:
    from nbtasks.notebook.cells.namespace import NotebookNames

__all__ = ["NotebookParts"]


class NotebookParts:
    """What nbtasks has of a notebook from `%load_ext` on.

    The rest is in `NotebookSession`, which is made at its first use. The fields are set once. The foreground is told by
    the main thread; any thread may use the names.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.kernel = Kernel(shell)
        self.manager = get_manager(loop=self.kernel.loop)
        self.manager.loop_backend.passing_loop = self.kernel.passing_loop
        self.foreground = Foreground()
        self._names = FirstUse(self._make_names)
        self.variables = NotebookVariables()
        self.libraries = NotebookLibraries()
        self.publisher = Publisher()
        self.settings = BackgroundTasks(parent=shell)

    @property
    def names(self) -> NotebookNames:
        """The notebook's names, as cells read and write them: made at their first use."""
        return self._names.get()

    def _make_names(self) -> NotebookNames:
        from nbtasks.notebook.cells.namespace import NotebookNames

        return NotebookNames(self.shell.user_ns, foreground=self.foreground)

    def foreground_began(self) -> None:
        """A foreground cell begins: commit the names that waited for the end of the one before."""
        request_id, names = self.kernel.launching_cell().request_id, self._names.made
        if names is None:
            self.foreground.began(request_id)
        else:
            names.foreground_began(request_id)

    def names_were_reset(self) -> None:
        """End the workers that hold names: after `%reset`, or since nbtasks is unloaded."""
        if self._names.made is not None:
            self._names.made.held.clear()

    def foreground_ended(self) -> None:
        """A foreground cell ended: commit the names that waited for it."""
        if self._names.made is None:
            self.foreground.ended()
        else:
            self._names.made.foreground_ended()
