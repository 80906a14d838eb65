"""The global names that compiled code reads and binds."""

from __future__ import annotations

import functools
import opcode
import types
from typing import NamedTuple

__all__ = ["GlobalNames", "global_names"]

_EXTENDED = opcode.opmap["EXTENDED_ARG"]
# By operation, how far its argument is shifted beside the number of the name. `LOAD_FROM_DICT_OR_GLOBALS` is of 3.12.
_READS = {
    opcode.opmap[name]: shift
    for name, shift in (("LOAD_GLOBAL", 1), ("LOAD_NAME", 0), ("LOAD_FROM_DICT_OR_GLOBALS", 0))
    if name in opcode.opmap
}
_READ_ANY = frozenset({"eval", "exec", "globals"})
_BINDS = {opcode.opmap[name]: 0 for name in ("STORE_GLOBAL", "DELETE_GLOBAL")}


class GlobalNames(NamedTuple):
    """The global names that a code object uses, with functions and classes within it."""

    reads: frozenset[str]
    binds: frozenset[str]
    mentions: frozenset[str]
    """All names in the code, those of attributes too: `getattr` and `eval` may make globals of them."""

    @property
    def may_read_any(self) -> bool:
        """Whether it uses `eval`, `exec` or `globals`, and so may read names that are not in it."""
        return not self.reads.isdisjoint(_READ_ANY)


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> GlobalNames:
    """Return the global names of a code object and of all code within it."""
    found = [GlobalNames(_operands(code, _READS), _operands(code, _BINDS), frozenset(code.co_names))]
    found += [global_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return GlobalNames(*(frozenset().union(*names) for names in zip(*found, strict=True)))


def _operands(code: types.CodeType, operations: dict[int, int]) -> frozenset[str]:
    """Return the names in the arguments of these operations."""
    opcodes, arguments = code.co_code[::2], code.co_code[1::2]
    found = set()
    for operation, shift in operations.items():
        at = opcodes.find(operation)
        while at >= 0:
            argument, prefix = arguments[at], 1
            while at >= prefix and opcodes[at - prefix] == _EXTENDED:
                argument |= arguments[at - prefix] << 8 * prefix
                prefix += 1
            found.add(code.co_names[argument >> shift])
            at = opcodes.find(operation, at + 1)
    return frozenset(found)
