"""Images of tasks: `task.img` (path, URL, bytes, PIL image, figure) as HTML `src`.

Figures are drawn on the live writer's thread, so that the work does not wait for it.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtasks.task import Task

__all__ = ["IMAGE_BYTES", "image_source"]

logger = logging.getLogger(__name__)

IMAGE_BYTES = 4_000_000
"""Maximum size of an image: it is sent to the page and saved in the notebook."""
DRAW_SECONDS = 0.5
"""Minimum time between two reads or drawings of one image."""

_TYPES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"<svg": "svg+xml",
    b"<?xml": "svg+xml",
}


@dataclass(slots=True)
class _CachedImage:
    """The last image of a task, read or drawn again only if it may have changed."""

    img: Any
    version: object
    source: str
    at: float
    final: bool


_cache: weakref.WeakKeyDictionary[Task, _CachedImage] = weakref.WeakKeyDictionary()


def image_source(task: Task) -> str:
    """The `src` of the task's image: a URL or the data; empty if there is none that can be shown."""
    img, last, now, final = task.img, _cache.get(task), time.monotonic(), task.done
    if img is None:
        return ""
    if last is not None and last.img is img and last.final:
        return last.source
    if last is not None and not final and now - last.at < DRAW_SECONDS:
        return last.source
    source, version = "" if last is None else last.source, None
    try:
        version = _version(img)
        if last is None or last.img is not img or version is None or last.version != version:
            source = _read(img)
    except Exception as error:  # noqa: BLE001 - files, and objects that draw themselves
        logger.debug("the img of %r cannot be shown: %s", task.name, error)
    _cache[task] = _CachedImage(img, version, source, now, final)
    return source


def _version(img: Any) -> object:
    """A value that changes when the image does; None if that cannot be known, as with a figure."""
    if _is_url(img) or isinstance(img, bytes):
        return ""
    if isinstance(img, str | os.PathLike):
        stat = Path(img).stat()
        return stat.st_mtime_ns, stat.st_size
    return None


def _read(img: Any) -> str:
    if _is_url(img):
        return str(img)
    if isinstance(img, str | os.PathLike):
        return _data_url(Path(img).read_bytes())
    if isinstance(img, bytes | bytearray | memoryview):
        return _data_url(bytes(img))
    if callable(draw := getattr(img, "_repr_png_", None)):
        return _data_url(draw())
    if callable(save := getattr(img, "savefig", None) or getattr(img, "save", None)):
        buffer = io.BytesIO()
        save(buffer, format="png")
        return _data_url(buffer.getvalue())
    raise TypeError(f"{type(img).__name__} is not a path, a URL, bytes, an image or a figure")


def _is_url(img: object) -> bool:
    return isinstance(img, str) and img.startswith(("https://", "http://", "data:image/"))


def _data_url(data: bytes) -> str:
    kind = next((kind for start, kind in _TYPES.items() if data.lstrip()[:8].startswith(start)), None)
    if kind is None or len(data) > IMAGE_BYTES:
        raise ValueError(
            f"{len(data):,} bytes that begin with {data[:8]!r} are no image of up to {IMAGE_BYTES:,} bytes"
        )
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
