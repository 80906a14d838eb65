#!/usr/bin/env bash
# click 8.5.1: `click.prompt` asks by the `input` that there was when click was imported.
#
# ipykernel, tests and consoles that embed Python replace `builtins.input`, and all code that calls `input(...)` follows,
# since a name of builtins is looked up at each call. click keeps the function itself as `click.termui.visible_prompt_func`
# at its import. So it depends on the order of imports whether a prompt reaches the front end of a notebook or reads the
# standard input of the process, and `typer.prompt` and `click.confirm` with it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/python -m pip install --quiet click==8.5.1
cat >ask.py <<'P'
import builtins
import sys

if sys.argv[1] == "before":
    import click
builtins.input = lambda prompt="": "of the front end"
import click

answer = click.prompt("name", prompt_suffix="")
print()
print(f"click imported {sys.argv[1]}: prompt {answer!r}, input() {input()!r}")
P
echo "of the process" | env/bin/python ask.py before | tee seen
echo "of the process" | env/bin/python ask.py after | tee -a seen
diff seen - <<'P'
name
click imported before: prompt 'of the process', input() 'of the front end'

click imported after: prompt 'of the front end', input() 'of the front end'
P
