"""What all figures share: size, type, colours, and how one becomes a file or part of a page."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.errors import ConfigError, SuiteError
from suite.report.formatting import one_line

# Drawn as this colour, so that a page can put its own in its place.
INK = "#010203"

# Typed loosely: the stubs list every single key.
SETTINGS: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}

FORMATS = ("svg", "png", "pdf")


@dataclass(frozen=True)
class Look:
    """How one series differs from the others without colour: marker and line; and its colour."""

    colour: str
    marker: str
    line: Any


# Told apart by the common kinds of colour blindness, each at least 3:1 against white and against
# the dark page.
COLOURS = ("#0072b2", "#d55e00", "#008f68", "#b8559a", "#8f6d00", "#7a5fc7", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (8, 3)))


def look(index: int) -> Look:
    """The look of the series at a position; 280 positions pass before one comes again."""
    return Look(
        COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], LINES[index % len(LINES)]
    )


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's settings of all our figures, whatever the user's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches; call it within `settings`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def grid(axes: Axes, which: str) -> None:
    """Faint lines behind the data across one axis ("x" or "y")."""
    axes.set_axisbelow(True)
    axes.grid(axis="x" if which == "x" else "y", color=INK, alpha=0.15, linewidth=0.6)


def shorten(text: str, limit: int = 32) -> str:
    """A label on one line, cut in the middle where it is too long for a figure."""
    line = one_line(text)
    if len(line) <= limit:
        return line
    head = (limit - 1) // 2
    return f"{line[:head]}…{line[len(line) - (limit - 1 - head) :]}"


def figure_svg(figure: Figure, *, title: str, description: str) -> str:
    """A figure as `<svg>` for an HTML page: its ink is the page's, its text can be selected.

    `title` must be unique on the page, because the names of the drawing's parts follow from it.
    The same figure gives the same text.
    """
    name = re.sub(r"\W+", "-", title).strip("-").lower() or "figure"
    drawn = _rendered(figure, "svg", salt=f"suite {title}").decode("utf-8")
    body = drawn[drawn.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    # Groups carry the same names in every figure and nothing refers to them.
    body = re.sub(r"<g id=\"[^\"]*\"", "<g", body)
    # Such a rule would reach the whole page, whose own says the same of figures.
    body = re.sub(r"<style[^>]*>.*?</style>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*; ", "", body)
    body = re.sub(r"(font: [^'\";]*?px) [^;\"]*", r"\1 system-ui, sans-serif", body)
    body = body.replace(INK, "currentColor")
    opening, _, rest = body.partition(">")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening)
    if box is None:
        raise AssertionError("matplotlib wrote an SVG without a view box")
    width, height = (round(float(side) * 4 / 3) for side in box.groups())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' role="img" width="{width}" height="{height}" {box[0]}'
        f' aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escape(one_line(title))}</title>'
        f'<desc id="{name}-text">{escape(one_line(description))}</desc>{rest}'
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, PNG or PDF, by the ending of `path`; the same figure, the same bytes.

    Raises:
        ConfigError: Another ending.
        SuiteError: The file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ConfigError(f"{path}: a figure is written as .svg, .png or .pdf, not '{path.suffix}'")
    content = _rendered(figure, kind, salt="suite", facecolor="white")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        reason = error.strerror or str(error)
        raise SuiteError(f"cannot write {path} ({reason}); give another file") from error


def _rendered(figure: Figure, kind: str, *, salt: str, facecolor: str = "none") -> bytes:
    # Dates and the library's version would make equal figures differ.
    metadata = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }[kind]
    buffer = io.BytesIO()
    with settings(), warnings.catch_warnings():
        # Text of an SVG is drawn by who shows it; a box in another file tells its reader enough.
        warnings.filterwarnings(
            "ignore", message=r"Glyph \d+ .* missing from", category=UserWarning
        )
        matplotlib.rcParams["svg.hashsalt"] = salt
        if figure.get_layout_engine() is not None:
            # The layout moves a little each time it is solved; solved once, it stays.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata, facecolor=facecolor)
    return buffer.getvalue()
