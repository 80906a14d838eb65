"""Monkeypatches of IPython and ipykernel: displays, errors, magics, events.

Displays and errors of code in a background cell go to the sink of its context. The shell, the display publisher and
the kernel stay the same objects, so that libraries and logging handlers that hold them are covered too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.events import EventManager
from IPython.core.hooks import CommandChainDispatcher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics

from nbtasks.formatting import error_text
from nbtasks.notebook.kernel import Kernel
from nbtasks.notebook.output.away_cells import away_cell
from nbtasks.notebook.output.sink import Sink, current_parent, current_sink
from nbtasks.notebook.patches.attributes import AttributePatch
from nbtasks.notebook.patches.main_module import current_names
from nbtasks.patch import ABSENT, ItemPatch, ListPatch, Patch, PatchSet
from nbtasks.post_import import ModulePatches

__all__ = [
    "completion_patch",
    "configurable_patch",
    "display_patches",
    "event_patch",
    "kernel_patches",
    "magics_patches",
    "reset_patch",
    "shell_patches",
]

Wrap = Callable[[Any], Any]


def shell_patches(shell: InteractiveShell) -> PatchSet:
    """The patch that every shell needs: IPython's names stay in `builtins` between cells."""
    return PatchSet([_BuiltinsPatch(shell.builtin_trap)])


def reset_patch(shell: InteractiveShell, on_reset: Callable[[], None]) -> Patch:
    """Call `on_reset` after `%reset` has dropped all names of the notebook, not those of a task."""

    def make(reset: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(reset)
        def resetting(*args: Any, **kwargs: Any) -> None:
            reset(*args, **kwargs)
            if current_names() is None:
                on_reset()

        return resetting

    return Patch(shell, "reset", make)


def kernel_patches(shell: Any, kernel: Kernel) -> PatchSet:
    """Patches of the messages of a kernel to front ends: displays, errors, payloads, and their parents."""
    publish, clear = functools.partial(_publish_to_sink, kernel.encode), _clear_sink
    return PatchSet(
        [
            Patch(shell.display_pub, "publish", _by_sink(publish)),
            Patch(shell.display_pub, "clear_output", _by_sink(clear)),
            # What the foreground captures by another publisher.
            Patch(CapturingDisplayPublisher, "publish", _by_sink(publish, of_class=True)),
            Patch(CapturingDisplayPublisher, "clear_output", _by_sink(clear, of_class=True)),
            # ipykernel calls it at each request: without it clicks, which come to subshells, fail during a %%capture.
            AttributePatch(CapturingDisplayPublisher, "set_parent", lambda _publisher: _ignore_parent),
            Patch(shell, "_showtraceback", _by_sink(_show_traceback)),
            Patch(shell.payload_manager, "write_payload", _by_sink(_write_payload)),
            # A cell that was sent to the background ends beside another one, whose reply carries the payloads.
            Patch(shell.payload_manager, "read_payload", _by_sink(_no_payloads)),
            Patch(shell.payload_manager, "clear_payload", _by_sink(_ignore)),
            *([Patch(shell.kernel, "_abort_queues", _only_in_foreground)] if kernel.has_shell_thread else []),
            # `set_parent` also sets the parent of threads that have none of their own. ipywidgets' Output calls it.
            Patch(shell, "set_parent", _by_sink(_ignore)),
            Patch(shell, "get_parent", _parent_by_context),
            Patch(shell.kernel, "get_parent", _parent_by_context),
            ModulePatches("ipywidgets.widgets.widget_output", _output_widget_patches),
            ModulePatches("ipykernel.comm.comm", _comm_patches),
            kernel.comms.patches(),
        ]
    )


def display_patches(
    shell: Any,
    functions: Mapping[type, Callable[[Any], None]],
    later: Mapping[tuple[str, str], Callable[[Any], None]],
    show: Callable[[Any], bool],
) -> PatchSet:
    """Show objects of these classes by these functions, and others by `show` where that returns True.

    `later` has classes by module and name, whose modules need not be imported yet.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def formatted(obj: Any, *args: Any, **kwargs: Any) -> Any:
            return ({}, {}) if show(obj) else original(obj, *args, **kwargs)

        return formatted

    printers = shell.display_formatter.ipython_display_formatter.type_printers

    def printer(name: str, function: Callable[[Any], None]) -> Callable[[ModuleType], list[Patch]]:
        return lambda module: [ItemPatch(printers, getattr(module, name), _constant(function))]

    return PatchSet(
        [
            *(ItemPatch(printers, kind, _constant(function)) for kind, function in functions.items()),
            *(ModulePatches(module, printer(name, function)) for (module, name), function in later.items()),
            # A printer of `list` could not leave other lists to IPython.
            Patch(shell.display_formatter, "format", make),
        ]
    )


def magics_patches(shell: Any, magics: Magics) -> PatchSet:
    """Register the magics, which must have been made without a shell: else they are configurables already."""
    manager = shell.magics_manager
    functions = [
        ItemPatch(manager.magics[kind], name, _constant(function))
        for kind, table in magics.magics.items()
        for name, function in table.items()
    ]
    registered = ItemPatch(manager.registry, type(magics).__name__, _constant(magics))
    return PatchSet([configurable_patch(shell, magics), registered, *functions])


def configurable_patch(shell: Any, configurable: Any) -> Patch:
    """Let `%config` find the object."""
    return ListPatch(shell, "configurables", configurable, first=False)


def completion_patch(shell: Any, command: str, complete: Callable[[InteractiveShell, Any], list[str]]) -> Patch:
    """Complete the arguments of `command`."""

    def chain(original: Any) -> CommandChainDispatcher:
        made = CommandChainDispatcher([] if original is ABSENT else list(original.chain))
        made.add(functools.partial(complete, shell), 50)
        return made

    return ItemPatch(shell.strdispatchers["complete_command"].strs, command, chain)


def event_patch(shell: InteractiveShell, event: str, callback: Callable[..., None]) -> Patch:
    """Call `callback` on an event of IPython, such as "pre_run_cell"."""
    return _EventPatch(shell.events, event, callback, first=False)


def _ignore_parent(_parent: dict[str, Any]) -> None:
    pass


class _EventPatch(ListPatch):
    """Keeps a callback among those of an event."""

    owner: EventManager

    def _found(self) -> Any:
        return self.owner.callbacks[self.name]


class _BuiltinsPatch(Patch):
    """Keeps IPython's names in `builtins`.

    IPython counts how often it has put them there, and that count is not thread-safe: entered once more, the trap
    never removes them under a running thread.
    """

    owner: BuiltinTrap

    def __init__(self, trap: BuiltinTrap) -> None:
        super().__init__(trap, "_nested_level", lambda level: level + 1)
        self._is_entered = False

    @property
    def is_applied(self) -> bool:
        """Whether the trap is held."""
        return self._is_entered

    def apply(self) -> None:
        """Enter the trap, unless it was entered here."""
        if not self._is_entered:
            self.owner.__enter__()
            self._is_entered = True

    def revert(self) -> None:
        """Leave the trap."""
        if self._is_entered:
            self._is_entered = False
            self.owner.__exit__(None, None, None)


def _constant(value: Any) -> Wrap:
    return lambda _: value


def _by_sink(in_task: Callable[..., Any], *, of_class: bool = False) -> Wrap:
    """Call `in_task`, with the sink as its first argument, in contexts that have one, else the original."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            sink = current_sink()
            if sink is None:
                return original(*args, **kwargs)
            return in_task(sink, *args[of_class:], **kwargs)

        return call

    return wrap


def _publish_to_sink(
    encode: Callable[[dict[str, Any]], dict[str, Any]],
    sink: Sink,
    data: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *_: Any,
    transient: dict[str, Any] | None = None,
    update: bool = False,
    **__: Any,
) -> None:
    sink.display(encode(data), metadata or {}, transient or {}, update=update)


def _clear_sink(sink: Sink, wait: bool = False) -> None:
    sink.clear(wait=wait)


def _show_traceback(sink: Sink, kind: type[BaseException], error: BaseException, lines: list[str]) -> None:
    if (cell := away_cell()) is not None:  # for the reply to its request
        cell.values["_last_traceback"] = lines
    sink.error(kind.__name__, error_text(error), lines)


def _write_payload(sink: Sink, data: dict[str, Any], *_: Any, **__: Any) -> None:
    """Show the pager's text as output: the reply that would carry a payload is that of another cell."""
    if data.get("source") == "page":
        sink.page(data["data"])
    else:
        sink.page({"text/plain": f"nbtasks: a background cell cannot do this ({data.get('source')})"})


def _no_payloads(_sink: Sink) -> list[dict[str, Any]]:
    return []


def _only_in_foreground(abort_queues: Callable[..., None]) -> Callable[..., None]:
    """Abort the cells that wait, unless it was a cell in the background that has failed."""

    @functools.wraps(abort_queues)
    def abort(*subshell_id: Any) -> None:
        if away_cell() is None:
            abort_queues(*subshell_id)

    return abort


def _ignore(_sink: Sink, *_: Any) -> None:
    pass


def _parent_by_context(get_parent: Callable[..., Any]) -> Callable[..., Any]:
    """Return the launching request of a background cell, also on ipykernel 6, which has one for all."""

    @functools.wraps(get_parent)
    def get(*channel: Any) -> Any:
        return current_parent() or get_parent(*channel)

    return get


def _comm_patches(module: ModuleType) -> list[Patch]:
    """Publish displays so far before a message of a widget.

    bokeh, for example, updates a plot that it has just displayed.
    ipykernel 7.4 handles the clicks on a widget in the subshell of the request under which the widget last sent a
    message: after that of a background cell, in the shell that a foreground cell blocks. So that is forgotten.
    """

    def publishing(publish: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(publish)
        def publish_in_order(comm: Any, *args: Any, **kwargs: Any) -> Any:
            sink = current_sink()
            if sink is None:
                return publish(comm, *args, **kwargs)
            sink.sync_displays()
            try:
                return publish(comm, *args, **kwargs)
            finally:
                vars(comm).pop("_reply_subshell_id", None)

        return publish_in_order

    return [Patch(module.BaseComm, "publish_msg", publishing)]


def _output_widget_patches(module: ModuleType) -> list[Patch]:
    """Publish the output so far before an Output widget asks the front end to redirect new output."""
    if not hasattr(module.Output, "_flush"):
        return []
    return [Patch(module.Output, "_flush", _by_sink(lambda sink: sink.sync(), of_class=True))]
