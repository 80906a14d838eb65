"""A worker process that is kept for the live objects that cells have left in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from nbtasks.formatting import listed
from nbtasks.notebook.cells.held_names import HeldNames, Value
from nbtasks.notebook.output.output import Output
from nbtasks.workers.kept_worker import KeptWorker
from nbtasks.workers.messages import Message

if TYPE_CHECKING:
    from nbtasks.workers.kernel_process import Worker

__all__ = ["CellHolder", "Known"]

_LISTED = 3
"""How many names a message names."""

_CELLS = 100
"""Of how many of its cells late output is shown."""
_BIG = 2**20
"""The size from which a value is not hashed before cells that do not read it."""


class Known(NamedTuple):
    """What the notebook knows of a value that the worker has, too."""

    digest: bytes | None
    size: int
    value: Value

    def is_big_and_bound(self, value: Any) -> bool:
        """Whether the name still has this object, and to find out whether that has changed takes time."""
        return self.size >= _BIG and self.digest is not None and self.value.is_it(value)



class CellHolder(KeptWorker):
    """A worker with the objects of names, and what the notebook knows of its names.

    The work that runs in it uses it alone; between two cells only `receive` and `ended` are called.
    """

    def __init__(self, worker: Worker, running: str, held: HeldNames) -> None:
        super().__init__(worker, running)
        self.output: Output | None = None
        """Of the cell that runs in it, if that needs the objects in it."""
        self.trusted = True
        """Whether its names are those of the notebook: not after a cell whose names were not committed."""
        self.known: Collection[str] = ()
        """Its names at the end of the last cell, held or not."""
        self.values: dict[str, Known] = {}
        """The values that the notebook had for these names when they were the same there."""
        self._held = held
        self._shows: dict[str, Callable[[Message], None]] = {}
        self._show_in_last: Callable[[Message], None] = lambda _: None

    @property
    def label(self) -> str:
        """The names that it holds."""
        return listed(sorted(self.names), _LISTED)

    @property
    def names(self) -> Iterable[str]:
        """The names that it holds."""
        return self._held.names_of(self)

    def add_cell(self, request: str, show: Callable[[Message], None]) -> None:
        """A cell has ended in it: what belongs to its request from now on is shown by `show`."""
        self._shows[request] = self._show_in_last = show
        if len(self._shows) > _CELLS:
            del self._shows[next(iter(self._shows))]

    def takes(self, message: Message) -> bool:
        """Whether it belongs to a cell that has ended."""
        return message.answers in self._shows

    def receive(self, message: Message) -> None:
        """Show what threads of a cell that has ended write or display; of an unknown cell, in the last one."""
        if message.channel == "iopub":
            self._shows.get(message.answers or "", self._show_in_last)(message)

    def ended(self, why: str) -> None:
        """The names are lost; say so in the cell that runs in it."""
        lost, output = self._held.lose(self, why), self.output
        if lost and output is not None:
            is_lost = "is" if len(lost) == 1 else "are"
            output.stderr(
                f"nbtasks: {listed(sorted(lost), _LISTED)} {is_lost} lost with the worker process ({why}): run the "
                f"cell again that makes {'it' if len(lost) == 1 else 'them'}\n"
            )
