"""Checks of the homework on neurons, exercise 7: what a shift does to a classifier."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import called, parts, tensor
from cvbook.checks.verdict import Wrong, equal, exercise
from cvbook.data import CLASSES, fashion_mnist

__all__ = ["accuracy_map", "moved", "sensitive"]


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Pad on one side and cut off on the other: zeros enter."""
    return F.pad(images, (right, -right, down, -down))


@exercise("Exercise 7, moved images")
def moved(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(images, down, right)`` in all directions, zero included."""
    g = torch.Generator().manual_seed(seed)
    for down, right in ((2, 0), (0, 3), (-1, 0), (0, -2), (2, 1), (-3, 1 + seed % 5), (0, 0), (1, -2), (-2, -1)):
        images = 0.1 + torch.rand(2, 1, 6, 7, generator=g)
        expected = shift(images, down, right)
        mistakes = {
            "what leaves on one side comes in on the other; zeros must come in": images.roll((down, right), (2, 3)),
            "the direction is wrong: positive means down and to the right": shift(images, -down, -right),
            "up and down are exchanged: positive means down": shift(images, -down, right),
            "left and right are exchanged: positive means to the right": shift(images, down, -right),
            "rows and columns are exchanged: down moves along axis 2, right along axis 3": shift(images, right, down),
            "negative shifts do nothing here": shift(images, max(down, 0), max(right, 0)),
            "the images are not moved": images,
            "the edge is copied into what enters; zeros must come in": _edges(images, down, right),
        }
        what = f"{down} down and {right} to the right"
        got = tensor(called(answer, images=images, down=down, right=right), what)
        if got.shape == images.shape and 0 in (down, right) and not got.any():
            raise Wrong(f"everything is zero for {what}: x[:-0] is empty, so a shift of 0 needs care")
        equal(got, expected, mistakes=mistakes, what=what)
    return "right, in all directions"


def _edges(images: Tensor, down: int, right: int) -> Tensor:
    rows = (torch.arange(images.shape[2]) - down).clamp(0, images.shape[2] - 1)
    columns = (torch.arange(images.shape[3]) - right).clamp(0, images.shape[3] - 1)
    return images[:, :, rows][..., columns]


@exercise("Exercise 7, the map")
def accuracy_map(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(predict, images, labels, reach)`` with a made-up classifier of 60 small images."""
    g = torch.Generator().manual_seed(seed)
    images = torch.rand(60, 1, 8, 9, generator=g)
    templates = torch.randn(72, 3, generator=g)

    def predict(batch: Tensor) -> Tensor:
        if not isinstance(batch, Tensor) or batch.ndim != 4 or batch.shape[1:] != images.shape[1:]:
            got = tuple(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
            raise Wrong(f"predict was called with {got}; it takes all images at once, as (N, 1, H, W)")
        return (batch.flatten(1) @ templates).argmax(1)

    labels = predict(images)
    labels[:9] = (labels[:9] + 1) % 3  # nine wrong at rest
    for reach in (1, 2):
        ways = range(-reach, reach + 1)
        hits = torch.tensor([[(predict(shift(images, d, r)) == labels).sum() for r in ways] for d in ways])
        steps, place = [], images  # the images of each step are moved on in the next
        for d, r in itertools.product(ways, ways):
            place = shift(place, d, r)
            steps.append(100 * (predict(place) == labels).double().mean())
        rolled = torch.tensor(
            [[(predict(images.roll((d, r), (2, 3))) == labels).sum() for r in ways] for d in ways]
        )  # fmt: skip
        right = 100 * hits.double() / len(images)
        mistakes = {
            "rows and columns are exchanged: row i is the shift down, column j the shift to the right": right.T,
            "the map is upside down: its first row is the largest shift up, -reach": right.flip(0),
            "the map is mirrored: its first column is the largest shift to the left, -reach": right.flip(1),
            "both axes run the wrong way: they go from -reach to +reach": right.flip(0, 1),
            "this is a fraction; return percent": right / 100,
            "these are counts; return percent": hits.double(),
            "this is the share of errors; return that of right answers": 100 - right,
            "the shifts run from -reach to reach - 1; both ends belong to the map": right[:-1, :-1],
            "the shifts run from 0 to reach; the map needs both directions": right[reach:, reach:],
            "what leaves on one side comes in on the other; zeros must come in": 100 * rolled.double() / len(images),
            "the moved images are moved again; start each shift from the images at rest": (
                torch.stack(steps).view_as(right)
            ),
            "the images are never moved": right[reach, reach].expand_as(right),
            "this compares with the answers at rest; compare with the labels": 100.0
            * torch.tensor(
                [[(predict(shift(images, d, r)) == predict(images)).double().mean() for r in ways] for d in ways]
            ).double(),
        }  # fmt: skip
        got = called(answer, predict=predict, images=images, labels=labels, reach=reach)
        what = f"60 images and reach {reach}"
        equal(tensor(got, what), right, mistakes=mistakes, what=what)
    return "right, in all directions"


@exercise("Exercise 7, the most sensitive garment")
def sensitive(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer()``: the garment and the direction in which a shift of two pixels costs it most; measured here."""
    got = called(answer)
    name, way = (str(part).strip().lower() for part in parts(got, "(garment, direction)"))
    losses = _losses()
    names, ways = [kind.lower() for kind in CLASSES], list(losses)
    if name not in names:
        raise Wrong(f"expected a garment among {', '.join(CLASSES)}, got {name!r}")
    if way not in ways:
        raise Wrong(f"expected a direction among {', '.join(ways)}, got {way!r}")
    table = torch.stack(list(losses.values()))  # (4 directions, 10 garments), points lost
    row, column = divmod(int(table.argmax()), len(names))
    lost, most = float(table[ways.index(way), names.index(name)]), float(table.max())
    if lost >= most - 1e-6:
        return f"right: it loses {most:.0f} points, though two pixels are hardly visible"
    if name == names[column]:
        raise Wrong(f"the garment is right, but moved {way} it loses {lost:.1f} points; another direction costs more")
    if table[row, names.index(name)] == table[:, names.index(name)].max() and row == ways.index(way):
        raise Wrong(f"the direction is right, but a {name} loses {lost:.1f} points; another garment loses more")
    raise Wrong(f"a {name} moved {way} loses {lost:.1f} points; look for the largest entry of the table")


def _losses() -> dict[str, Tensor]:
    """Percentage points that each garment loses in each direction, for ten neurons that are average garments."""
    (images, labels), (new, truth) = fashion_mnist("train"), fashion_mnist("test")
    x = images.flatten(1)
    means = torch.stack([x[labels == k].mean(0) for k in range(len(CLASSES))])

    def right(batch: Tensor) -> Tensor:
        hits = (torch.cdist(batch.flatten(1), means).argmin(1) == truth).double()
        return torch.stack([100 * hits[truth == k].mean() for k in range(len(CLASSES))])

    moves = {"up": (-2, 0), "down": (2, 0), "left": (0, -2), "right": (0, 2)}
    return {way: right(new) - right(shift(new, *move)) for way, move in moves.items()}
