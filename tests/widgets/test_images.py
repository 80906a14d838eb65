"""Images of tasks: paths, URLs, bytes, PIL images and figures as HTML `src`."""

from __future__ import annotations

import io
import threading

import matplotlib.figure
import pytest
from PIL import Image

from nbtasks import TaskManager
from nbtasks.widgets import images
from nbtasks.widgets.html import image_html
from nbtasks.widgets.images import image_source


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(images, "DRAW_SECONDS", 0.0)
    gate = threading.Event()
    with TaskManager() as manager:
        yield manager.create_task("it", gate.wait)
        gate.set()


def test_bytes_pil_images_and_figures_become_data_urls(task):
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    for given in (png("red"), bytearray(png("red")), Image.new("RGB", (4, 4)), figure):
        task.img = given
        assert image_source(task).startswith("data:image/png;base64,iVBOR")


def test_a_url_stays_a_url(task):
    task.img = "https://example.org/x.png?a=1&b=2"
    assert image_source(task) == "https://example.org/x.png?a=1&b=2"
    assert 'src="https://example.org/x.png?a=1&amp;b=2"' in image_html(image_source(task), "it")


def test_a_file_is_read_again_when_it_changes(task, tmp_path):
    path = tmp_path / "plot.png"
    path.write_bytes(png("red"))
    task.img = path
    red = image_source(task)
    path.write_bytes(png("blue") + b" ")
    assert image_source(task) != red


def test_a_figure_that_has_changed_is_drawn_again(task):
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    task.img = figure
    empty = image_source(task)
    figure.subplots().plot([1, 2])
    assert image_source(task) != empty


def test_the_time_between_two_drawings_has_a_minimum(task, monkeypatch):
    monkeypatch.setattr(images, "DRAW_SECONDS", 60.0)
    task.img = png("red")
    red = image_source(task)
    task.img = png("blue")
    assert image_source(task) == red


TOO_LARGE = b"\x89PNG\r\n\x1a\n" + b"x" * images.IMAGE_BYTES


@pytest.mark.parametrize("given", ["no/such/file.png", b"not an image", 42, TOO_LARGE])
def test_anything_else_shows_no_image_and_raises_nothing(task, given):
    task.img = given
    assert image_source(task) == ""


def test_the_html_is_escaped(task):
    task.img = 'https://example.org/" onerror="alert(1)'
    markup = image_html(image_source(task), '"><script>')
    assert 'onerror="' not in markup
    assert "<script>" not in markup
