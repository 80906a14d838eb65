#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist=loadgroup` makes no groups, and says nothing.
#
# Tests with one `xdist_group` mark are to run in one worker. The plugin reads the mark and appends "@group" to the id of
# the test, by setting the attribute `_nodeid`. pytest 9.2 computes `nodeid` from something else: the mark is there, the
# suffix is not, and tests of one group run in several workers. With pytest 8.4.2 each group has one worker.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >test_groups.py <<'P'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("n", range(12))
def test_one(n):
    time.sleep(0.1)
    with open(os.environ["WORKERS"], "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
P
workers_with() {
    python3 -m venv "$1"
    "$1/bin/python" -m pip install --quiet "pytest==$1" pytest-xdist==3.8.0
    WORKERS="$folder/workers-$1" "$1/bin/python" -m pytest -q -p no:cacheprovider --numprocesses=2 --dist=loadgroup >"log-$1"
    sort -u "workers-$1" | wc -l
}
new=$(workers_with 9.2.0)
old=$(workers_with 8.4.2)
echo "workers of one group: pytest 9.2.0: $new, pytest 8.4.2: $old"
[ "$new" = 2 ] && [ "$old" = 1 ]
