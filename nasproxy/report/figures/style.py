"""Style of the report's figures: sizes, colours and markers, and rendering to PNG.

Blue is the proxy, black full training, vermilion thresholds and rejection, green the noise ceiling. The palette is that
of Okabe and Ito (2008), safe for colour-blind readers; markers and dashes distinguish curves in print.
"""

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nasproxy.report import wording
from nasproxy.statistics.ceiling import NoiseCeiling

BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#8C8C8C"
MARKED = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (PURPLE, "^"), (SKY, "v"), (VERMILION, "P"))
SERIES = tuple(itertools.product(("-", "--", ":"), MARKED))
SMALL, TALL, WIDE = (3.5, 2.8), (3.5, 3.3), (7.2, 3.1)
DPI = 200
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,
}


class Over(str, Enum):
    """The x axis of a curve, and the suffix of its file name."""

    STEPS = "training_steps"
    TIME = "training_time"


@dataclass(frozen=True)
class Picture:
    """A rendered figure.

    Attributes:
        name: File name.
        alt: Alternative text.
        png: Content of the PNG file.
    """

    name: str
    alt: str
    png: bytes


def make_picture(name: str, alt: str, draw: Callable[..., Figure], *arguments: Any) -> Picture:
    """Draw and render a figure in the report's style."""
    with mpl.rc_context(STYLE):
        figure = draw(*arguments)
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": "nasproxy"})
    return Picture(f"{name}.png", alt, file.getvalue())


def make_figure(size: tuple[float, float]) -> tuple[Figure, Any]:
    """Make a figure of `size` inches with one pair of axes."""
    figure = Figure(figsize=size, dpi=DPI)
    return figure, figure.subplots()


def draw_bounds(axes: Any, wanted: float | None, ceiling: NoiseCeiling | None) -> None:
    """Draw the target as a line, and the noise ceiling as a line with its confidence band."""
    if wanted is not None:
        axes.axhline(wanted, color=VERMILION, linestyle=":", linewidth=1.0, label=f"target {wanted:g}")
    if ceiling is not None:
        axes.axhspan(ceiling.low, ceiling.high, color=GREEN, alpha=0.12, linewidth=0)
        name = f"noise ceiling {wording.format_tau(ceiling.tau)}"
        axes.axhline(ceiling.tau, color=GREEN, linestyle="-.", linewidth=1.0, label=name)
