"""One style for every static figure of the book, and image grids, kernels and arrows drawn in it.

Colors are those of Okabe & Ito (https://jfly.uni-koeln.de/color/), told apart by color-blind readers and in grey.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from PIL import Image

from cvbook._arguments import number, whole

__all__ = ["COLORS", "Curve", "Picture", "arrow", "images", "kernel", "show", "style"]

COLORS = {
    "blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00",
    "sky": "#56B4E9", "pink": "#CC79A7", "yellow": "#F0E442", "ink": "#222222",
}  # fmt: skip
CYCLE = [COLORS[name] for name in ("blue", "orange", "green", "red", "pink", "sky", "ink")]
MARKS = ["o", "s", "^", "D", "v", "P", "X"]
DPI = 160


def style() -> None:
    """Apply the book's style to matplotlib. Call it once, at the top of a lesson."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.6, 3.4),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.prop_cycle": cycler(color=CYCLE) + cycler(marker=MARKS),
            "grid.color": "#E4E4E4",
            "lines.linewidth": 2,
            "lines.markersize": 5,
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


@dataclass(frozen=True)
class Picture:
    """A drawn figure with its alternative text, shown in notebooks as an HTML image."""

    webp: bytes
    alt: str
    width: int
    height: int

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.webp).decode()
        return (
            f'<img class="cv-static" alt="{html.escape(self.alt)}" width="{self.width}" height="{self.height}" '
            f'style="max-width:100%;height:auto;background:#fff" src="data:image/webp;base64,{data}">'
        )


def show(figure: MplFigure, alt: str) -> Picture:
    """Finish a matplotlib figure: render it, close it, attach its alternative text.

    Args:
        figure: the figure.
        alt: what a reader who cannot see it needs: chart type, data and finding, in at least 40 characters.

    Returns:
        A `Picture`; make it the last expression of a cell, or pass it to ``display``.

    Raises:
        TypeError: if ``figure`` is no figure.
        ValueError: if ``alt`` is too short to say all that; the figure is closed all the same.
    """
    if not isinstance(figure, MplFigure):
        raise TypeError(f"expected a matplotlib figure, got {type(figure).__name__}; of axes use ax.figure")
    stream = io.BytesIO()
    try:
        if not isinstance(alt, str) or len(alt) < 40:
            raise ValueError(f"expected alt text of at least 40 characters (chart type, data, finding), got {alt!r}")
        figure.savefig(stream, format="png", dpi=DPI, facecolor="white")
    finally:
        plt.close(figure)
    image = Image.open(stream).convert("RGB")
    versions = []
    for options in ({"lossless": True}, {"quality": 85}):
        packed = io.BytesIO()
        image.save(packed, "webp", method=6, **options)
        versions.append(packed.getvalue())
    lossless, lossy = versions
    webp = lossless if len(lossless) < 1.5 * len(lossy) else lossy  # line art stays exact, photographs get small
    return Picture(webp, alt, round(image.width * 100 / DPI), round(image.height * 100 / DPI))


class Curve:
    """A loss curve that grows under a cell while a network trains: it is drawn again after each epoch."""

    def __init__(self) -> None:
        import ipywidgets
        from IPython.display import display

        self.widget = ipywidgets.HTML()
        display(self.widget)

    def draw(self, history: dict[str, list[float]]) -> None:
        """Draw ``history["loss"]``, and the accuracy if there is one."""
        loss, accuracy = history["loss"], history.get("accuracy")
        epochs = range(1, len(loss) + 1)
        figure, ax = plt.subplots(figsize=(5, 2.2))
        ax.plot(epochs, loss)
        ax.set(xlabel="epoch", ylabel="loss", title=f"loss {loss[-1]:.3g}")
        if accuracy:
            right = ax.twinx()
            right.plot(epochs, accuracy, color=COLORS["orange"], marker="s")
            right.set(ylabel="accuracy")
            ax.set_title(f"loss {loss[-1]:.3g}, accuracy {accuracy[-1]:.1%}")
        alt = f"Line chart of the training loss by epoch, now {loss[-1]:.3g} after {len(loss)} epochs."
        self.widget.value = show(figure, alt)._repr_html_()


def images(
    batch: Sequence[object],
    alt: str,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    size: float = 1.4,
    symmetric: bool = False,
) -> Picture:
    """Images in a grid, without axes.

    Args:
        batch: images (tensors or arrays) ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)``; color in [0, 1]. Grey images
            share one scale: 0 to 1 if they fit, else their joint minimum to maximum.
        alt: alternative text, see `show`.
        titles: one for each image.
        columns: images in a row; all in one row if None.
        size: inches for each image.
        symmetric: True draws signed maps: red positive, blue negative, white zero, one shared scale.

    Raises:
        TypeError: if ``columns`` or ``size`` is no number.
        ValueError: if there is no image, one has another shape, or titles, columns, size or ``alt`` do not fit.
    """
    arrays = [_drawable(image) for image in batch]
    if not arrays:
        raise ValueError("expected at least one image, got none; give a list or a batch")
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"expected one title for each image, got {len(titles)} for {len(arrays)}; use '' for none")
    columns = len(arrays) if columns is None else whole("columns", columns)
    if columns < 1 or not 0 < number("size", size) < float("inf"):
        raise ValueError(f"expected columns and size above zero, got {columns} and {size}")
    rows = -(-len(arrays) // columns)
    grey = [a for a in arrays if a.ndim == 2]
    low = min((float(a.min()) for a in grey), default=0.0)
    high = max((float(a.max()) for a in grey), default=1.0)
    if symmetric:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, (size + (0.3 if titles else 0)) * rows), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, array) in enumerate(zip(axes.flat, arrays, strict=False)):
        ax.imshow(array, vmin=low, vmax=high, cmap="RdBu_r" if symmetric else "gray")
        if titles:
            ax.set_title(titles[index], fontsize=10, loc="center")
    return show(figure, alt)


def kernel(ax: Axes, weights: object, *, title: str = "") -> None:
    """Draw a kernel ``(k, k)`` as numbers on colored squares: red positive, blue negative.

    Raises:
        ValueError: if the kernel has several channels or is no kernel.
    """
    array = _drawable(weights)
    if array.ndim != 2:
        raise ValueError("expected a kernel (k, k), got several channels; pick one: weights[0]")
    limit = float(np.abs(array).max()) or 1.0
    ax.imshow(array, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit)
    for (row, column), value in np.ndenumerate(array):
        ax.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="center", fontsize=10)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    """Draw an arrow from ``start`` to ``end`` in data coordinates, labelled at its tail."""
    ax.annotate(text, xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": COLORS["ink"]}, va="center")


def _drawable(image: object) -> np.ndarray:
    try:
        array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected an image of numbers, got {type(image).__name__} ({error})") from error
    if array.size == 0:
        raise ValueError(f"expected an image of at least one pixel, got shape {array.shape}")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 3 and array.shape[0] == 3:
        array = np.clip(np.moveaxis(array, 0, -1), 0, 1)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return array
    raise ValueError(f"expected an image (H, W), (1, H, W) or (3, H, W), got {array.shape}; pick one of the batch")
