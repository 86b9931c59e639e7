"""Draw the book's mark, its favicon, its social card and the pictures that open chapters.

    python tools/draw.py            write book/_static/{logo,favicon,network,dense_or_local,shortcuts}.svg, social.png

The mark: a 3×3 kernel (blue, weights by a Gaussian) lies on a 5×5 image and feeds one output (orange).
The card shows a photograph, the edges that one kernel finds in it, and the book's title.
"""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#8a8d94"


def mark(cells: int) -> str:
    """The mark as SVG elements on a field of 96: ``cells``² squares, a 3×3 kernel in blue, its output in orange."""
    pitch = 96 / cells
    gap, side, corner = pitch / 12, pitch * 5 / 6, pitch / 6
    squares = []
    for row in range(cells):
        for column in range(cells):
            color, opacity = _paint(row, column, cells)
            squares.append(
                f'<rect x="{column * pitch + gap:.1f}" y="{row * pitch + gap:.1f}" '
                f'width="{side:.1f}" height="{side:.1f}" rx="{corner:.1f}" fill="{color}" opacity="{opacity:.2f}"/>'
            )
    return "".join(squares)


def _paint(row: int, column: int, cells: int) -> tuple[str, float]:
    if (row, column) == (0, cells - 1):
        return ORANGE, 1.0
    if row >= cells - 3 and column <= 2:
        return BLUE, 0.25 + 0.75 * math.exp(-((row - cells + 2) ** 2 + (column - 1) ** 2) / 3)
    return GREY, 0.38


def svg(cells: int) -> str:
    """The mark as a complete SVG file."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96" width="96" height="96">{mark(cells)}</svg>\n'


def dense_or_local() -> str:
    """A dense layer beside a convolution: one color is one weight. Mid-tones, so that it works on light and dark."""
    size, cell = 6, 34
    parts: list[str] = []

    def center(left: int, row: int, column: int) -> tuple[float, float]:
        return left + (column + 0.5) * cell, 18 + (row + 0.5) * cell

    def grid(left: int, rows: int, lit: set[tuple[int, int]]) -> None:
        for row, column in itertools.product(range(rows), repeat=2):
            x, y = center(left, row, column)
            color, opacity = (ORANGE, 1) if (row, column) in lit else (GREY, 0.35)
            square = f'<rect x="{x - 14:g}" y="{y - 14:g}" width="28" height="28" rx="4" fill="{color}"'
            parts.append(f'{square} opacity="{opacity}"/>')

    def wires(left: int, window: list[tuple[int, int]], end: tuple[float, float]) -> None:
        for number, (row, column) in enumerate(window):
            x, y = center(left, row, column)
            color = f"hsl({360 * number / len(window):.0f},62%,52%)"
            parts.append(
                f'<path d="M{x:g} {y:g}L{end[0]:g} {end[1]:g}" stroke="{color}" stroke-width="1.7" fill="none"/>'
                f'<circle cx="{x:g}" cy="{y:g}" r="5" fill="{color}"/>'
            )

    grid(6, size, set())
    parts.append(f'<circle cx="330" cy="120" r="13" fill="{ORANGE}"/>')
    wires(6, [(row, column) for row in range(size) for column in range(size)], (317, 120))
    grid(420, size, set())
    grid(700, 4, {(0, 1), (3, 2)})
    for row, column in ((0, 1), (3, 2)):
        x, y = center(700, row, column)
        wires(420, [(row + u, column + v) for u in range(3) for v in range(3)], (x - 14, y))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 842 240">{"".join(parts)}</svg>\n'


def network() -> str:
    """A network of neurons: values go forward, gradients backward, and get smaller on the way."""
    layers, left, pitch = (6, 5, 4, 4, 3), 60, 180
    chance = random.Random(1)
    parts: list[str] = []

    def place(layer: int, unit: int) -> tuple[float, float]:
        return left + layer * pitch, 108 + (unit - (layers[layer] - 1) / 2) * 30

    for layer in range(len(layers) - 1):
        for a, b in itertools.product(range(layers[layer]), range(layers[layer + 1])):
            (x0, y0), (x1, y1), weight = place(layer, a), place(layer + 1, b), chance.gauss(0, 1)
            color = BLUE if weight > 0 else ORANGE
            parts.append(
                f'<path d="M{x0:g} {y0:g}L{x1:g} {y1:g}" stroke="{color}" stroke-width="{0.4 + abs(weight):.1f}" '
                'opacity="0.6" fill="none"/>'
            )
    for layer, units in enumerate(layers):
        for unit in range(units):
            x, y = place(layer, unit)
            parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="11" fill="{GREY}"/>')
        if layer:
            height = 44 * 0.45 ** (len(layers) - 1 - layer)
            parts.append(
                f'<rect x="{left + layer * pitch - 14}" y="{252 - height:.1f}" width="28" height="{height:.1f}" rx="3" '
                f'fill="{ORANGE}"/>'
            )
    parts += [_arrow(60, 780, 12, BLUE), _arrow(780, 60, 268, ORANGE)]
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 842 280">{"".join(parts)}</svg>\n'


def _arrow(start: int, end: int, y: int, color: str) -> str:
    back = 12 if start < end else -12
    return (
        f'<path d="M{start} {y}H{end - back}" stroke="{color}" stroke-width="3" fill="none"/>'
        f'<path d="M{end} {y}l{-back} -6v12z" fill="{color}"/>'
    )


def shortcuts() -> str:
    """A plain chain of layers above a residual one, whose shortcuts lead around a block that was cut out."""
    parts: list[str] = []
    for y, residual in ((50, False), (170, True)):
        parts.append(f'<path d="M10 {y}H428M496 {y}H832" stroke="{GREY}" stroke-width="3" fill="none"/>')
        for block in range(8):
            x, cut = 40 + block * 98, block == 4
            if cut:
                parts.append(
                    f'<rect x="{x - 4}" y="{y - 22}" width="68" height="44" rx="6" fill="none" stroke="{GREY}" '
                    'stroke-width="2" stroke-dasharray="5 5"/>'
                    f'<path d="M{x + 20} {y - 10}l20 20m0 -20l-20 20" stroke="#d55e00" stroke-width="4"/>'
                )
            else:
                color = BLUE if residual or block < 4 else GREY
                parts.append(f'<rect x="{x}" y="{y - 20}" width="60" height="40" rx="6" fill="{color}"/>')
            if residual:
                parts.append(
                    f'<path d="M{x - 16} {y}C{x - 16} {y - 58} {x + 76} {y - 58} {x + 76} {y}" stroke="{ORANGE}" '
                    f'stroke-width="{5 if cut else 3}" fill="none"/>'
                    f'<circle cx="{x + 76}" cy="{y}" r="6" fill="{ORANGE}"/>'
                )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 842 210">{"".join(parts)}</svg>\n'


def card(path: Path) -> None:
    """The social card, 1200×630 pixels: a photograph turning into its edges, and the title."""
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.patches import FancyBboxPatch
    from scipy.signal import convolve2d
    from skimage import data

    photo = data.cat()[:, 70:327].astype(float) / 255
    grey = photo @ (0.299, 0.587, 0.114)
    sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    edges = np.hypot(*(convolve2d(grey, k, mode="same", boundary="symm") for k in (sobel, sobel.T)))
    split = photo.copy()
    half = photo.shape[1] // 2
    split[:, half:] = 1 - np.clip(edges / 1.2, 0, 1)[:, half:, None]

    figure = plt.figure(figsize=(12, 6.3), dpi=100, facecolor="#10151c")
    picture = figure.add_axes((0.55, 0, 0.45, 1))
    picture.imshow(split, extent=(0, 257, 300, 0), aspect="auto")
    picture.axvline(half, color=ORANGE, linewidth=3)
    picture.axis("off")
    text = figure.add_axes((0, 0, 0.55, 1))
    text.set(xlim=(0, 660), ylim=(0, 630))
    text.axis("off")
    for row in range(5):
        for column in range(5):
            color, opacity = _paint(row, column, 5)
            box = FancyBboxPatch(
                (64 + 24 * column, 526 - 24 * row), 17, 17, boxstyle="round,pad=0,rounding_size=3",
                color="#4aa8e0" if color == BLUE else color, alpha=opacity, linewidth=0,
            )  # fmt: skip
            text.add_patch(box)
    text.text(
        60,
        320,
        "Neural Networks\nfor Computer Vision",
        color="white",
        fontsize=34,
        weight="bold",
        linespacing=1.2,
        va="center",
    )
    text.text(60, 170, "A textbook whose figures move,\nwhose exercises answer back,\nand whose numbers are measured.",
              color="#b9c4d0", fontsize=19, linespacing=1.5, va="center")  # fmt: skip
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    from PIL import Image

    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=200).save(path, optimize=True)


if __name__ == "__main__":
    (STATIC / "logo.svg").write_text(svg(5), encoding="utf-8")
    (STATIC / "favicon.svg").write_text(svg(4), encoding="utf-8")
    for picture in (network, dense_or_local, shortcuts):
        (STATIC / f"{picture.__name__}.svg").write_text(picture(), encoding="utf-8")
    card(STATIC / "social.png")
