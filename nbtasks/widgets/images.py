"""A task's `img` as something that an HTML image can show: a path, a URL, bytes, an image of PIL's or a figure.

Knows nothing of widgets. Used on the live writer's thread, which draws figures, so that work does not wait for it.
"""

from __future__ import annotations

import base64
import html
import io
import logging
import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtasks.task import Task

__all__ = ["LARGEST", "image_html", "image_source"]

logger = logging.getLogger(__name__)

LARGEST = 4_000_000
"""Bytes of an image that are sent to the page, and kept in the notebook, at most."""
DRAW_SECONDS = 0.5
"""How often at most it is read or drawn again."""

_KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"<svg": "svg+xml",
    b"<?xml": "svg+xml",
}


@dataclass(slots=True)
class _Drawn:
    """What was shown last of a task's `img`, so that it is read or drawn again only where it may have changed."""

    img: Any
    stamp: object
    source: str
    at: float
    final: bool


_drawn: weakref.WeakKeyDictionary[Task, _Drawn] = weakref.WeakKeyDictionary()


def image_source(task: Task) -> str:
    """The `src` of its image: a URL or the data themselves; nothing where there is none that can be shown."""
    img, last, now, final = task.img, _drawn.get(task), time.monotonic(), task.done
    if img is None:
        return ""
    if last is not None and last.img is img and last.final:
        return last.source
    if last is not None and not final and now - last.at < DRAW_SECONDS:
        return last.source
    source, stamp = "" if last is None else last.source, None
    try:
        stamp = _stamp(img)
        if last is None or last.img is not img or stamp is None or last.stamp != stamp:
            source = _source(img)
    except Exception as error:  # noqa: BLE001 - files, and objects that draw themselves
        logger.debug("the img of %r cannot be shown: %s", task.name, error)
    _drawn[task] = _Drawn(img, stamp, source, now, final)
    return source


def image_html(source: str, title: str) -> str:
    """The image as HTML; nothing where there is none."""
    if not source:
        return ""
    style = "display:block;max-width:100%;max-height:240px;margin-top:4px"
    return f'<img src="{html.escape(source)}" alt="{html.escape(f"image of {title}"[:200])}" style="{style}">'


def _stamp(img: Any) -> object:
    """What stays the same as long as the image surely does; None where it may have been drawn upon."""
    if _is_url(img) or isinstance(img, bytes):
        return ""
    if isinstance(img, str | os.PathLike):
        stat = Path(img).stat()
        return stat.st_mtime_ns, stat.st_size
    return None


def _source(img: Any) -> str:
    if _is_url(img):
        return str(img)
    if isinstance(img, str | os.PathLike):
        return _data_url(Path(img).read_bytes())
    if isinstance(img, bytes | bytearray | memoryview):
        return _data_url(bytes(img))
    if callable(drawing := getattr(img, "_repr_png_", None)):
        return _data_url(drawing())
    if callable(save := getattr(img, "savefig", None) or getattr(img, "save", None)):
        buffer = io.BytesIO()
        save(buffer, format="png")
        return _data_url(buffer.getvalue())
    raise TypeError(f"{type(img).__name__} is not a path, a URL, bytes, an image or a figure")


def _is_url(img: object) -> bool:
    return isinstance(img, str) and img.startswith(("https://", "http://", "data:image/"))


def _data_url(data: bytes) -> str:
    kind = next((kind for start, kind in _KINDS.items() if data.lstrip()[:8].startswith(start)), None)
    if kind is None or len(data) > LARGEST:
        raise ValueError(f"{len(data):,} bytes that begin with {data[:8]!r} are no image of up to {LARGEST:,} bytes")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
