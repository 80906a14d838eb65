#!/usr/bin/env bash
# sympy 1.14.0: importing its printing module while `sys.stdout` has no encoding makes it print ASCII for good.
#
# `sympy.printing.pretty` chooses once, at its import, between Unicode and ASCII, by `sys.stdout.encoding`. A StringIO,
# which `contextlib.redirect_stdout` is mostly used with, has None there. So a program that imports sympy (or a module
# that imports it) with its output redirected to a StringIO, to keep the import quiet, changes the look of every
# expression later: "--" in place of a horizontal line. A TextIOWrapper over a BytesIO does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet sympy==1.14.0 mpmath==1.3.0
cat >shown.py <<'P'
import contextlib
import io
import sys

kind = {"StringIO": io.StringIO, "TextIOWrapper": lambda: io.TextIOWrapper(io.BytesIO(), encoding="utf-8")}[sys.argv[1]]
with contextlib.redirect_stdout(kind()):
    import sympy
    import sympy.printing.pretty
x = sympy.symbols("x")
line = sympy.pretty(1 / x).splitlines()[1]
print(sys.argv[1], sys.stdout.encoding, ascii(line))
P
export PYTHONIOENCODING=utf-8
first=$(env/bin/python shown.py StringIO)
second=$(env/bin/python shown.py TextIOWrapper)
printf '%s\n' "$first" "$second"
[ "$first" = "StringIO utf-8 '-'" ] && [ "$second" = "TextIOWrapper utf-8 '\\u2500'" ]
