"""Root folders with new Pythons for `make test-matrix` (`make pythons`).

For machines with apt, debootstrap and root's rights. The mirror is the first one of the machine's own apt sources, and
pip's settings, certificates and host names are copied from the machine. Folders of the machine are mounted in the root:
run `python tests/pythons.py unmount` before anything deletes it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOTS", "Root", "roots"]

PROJECT = Path(__file__).resolve().parent.parent
ROOTS = Path(os.environ.get("NBTASKS_PYTHONS", PROJECT / ".pythons"))
"""The folder with the roots."""
SUITE = "sid"
_VERSIONS = ("3.14", "3.15")
_PACKAGES = ["gcc", "g++", "make", "git", "ca-certificates"]
_COPIED = (
    *("/etc/pip.conf", str(Path.home() / ".pip" / "pip.conf"), str(Path.home() / ".config" / "pip" / "pip.conf")),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/usr/local/share/ca-certificates"),
)
_SYSTEM = ("proc", "sys", "dev")


class Root:
    """One root folder. Commands run in it by chroot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, arguments: list[str], cwd: Path = PROJECT) -> list[str]:
        """A command that runs the arguments in the root, in the same folder."""
        return ["chroot", str(self.folder), "/bin/sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *arguments]

    def mounts(self) -> list[Path]:
        """What is mounted in it, the innermost first."""
        mounted = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
        return sorted((place for place in mounted if self.folder in place.parents), reverse=True)

    def mount(self, *folders: Path) -> None:
        """Have the system's folders and these ones in the root, under their own names."""
        there = self.mounts()
        for source in (*(Path("/", name) for name in _SYSTEM), Path("/tmp"), *folders):
            target = self.folder / source.relative_to("/")
            if not any(target.is_relative_to(one) for one in there):
                target.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "--rbind", "--make-rslave", str(source), str(target)], check=True)

    def unmount(self) -> None:
        """Take all mounts out."""
        for place in self.mounts():
            subprocess.run(["umount", str(place)], check=True)


def roots() -> list[Root]:
    """The roots that are there."""
    return [Root(folder) for folder in sorted(ROOTS.glob("*")) if (folder / "usr" / "bin").is_dir()]


def mirror() -> str:
    """The first mirror in the machine's own apt sources."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for file in files:
        found = re.search(r"^(?:deb\s+(?:\[.*?\]\s+)?|URIs:\s*)(\S+)", file.read_text() if file.is_file() else "", re.M)
        if found:
            return found[1]
    raise SystemExit("no mirror in /etc/apt/sources.list or /etc/apt/sources.list.d")


def _replace(source: str, target: str) -> None:
    """Copy a file in place of a link that is there, which could lead out of the root to the source."""
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target)


def build() -> None:
    """Make the root, if it is not there."""
    root = Root(ROOTS.resolve() / SUITE)
    if not (root.folder / "usr" / "bin").is_dir():
        missing = [name for name in ("apt-get", "debootstrap", "chroot", "mount") if shutil.which(name) is None]
        if missing or os.geteuid() != 0:
            raise SystemExit(f"make pythons needs root's rights and {', '.join(missing) or 'them only'}")
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(root.folder), mirror()], check=True)
    for path in map(Path, _COPIED):
        target = root.folder / path.relative_to("/")
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True, ignore_dangling_symlinks=True, copy_function=_replace)
        elif path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(path, target)
    root.mount(PROJECT)
    packages = [f"python{version}-{part}" for version in _VERSIONS for part in ("venv", "dev")]
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages, *_PACKAGES]
    subprocess.run(root.command(install), check=True)
    print(f"{root.folder}: Python {' and '.join(_VERSIONS)}")


def main() -> None:
    """Build the root, or take the mounts out of all."""
    if sys.argv[1:] == ["unmount"]:
        for root in roots():
            root.unmount()
    else:
        build()


if __name__ == "__main__":
    main()
