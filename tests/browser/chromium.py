"""Finds the installed Chromium that the browser tests drive.

`python -m tests.browser.chromium` prints its path, or fails where the machine has none.
"""

from __future__ import annotations

import os
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Headless on machines without a screen, a sandbox for root, or a network.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str | None:
    """The browser named by NBTASKS_CHROMIUM, else the machine's own, else None."""
    named = os.environ.get("NBTASKS_CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for path in map(shutil.which, NAMES) if path), None)


if __name__ == "__main__":
    found = chromium_path()
    if found is None:
        sys.exit("no Chromium on PATH, and none named by NBTASKS_CHROMIUM")
    sys.stdout.write(found + "\n")
