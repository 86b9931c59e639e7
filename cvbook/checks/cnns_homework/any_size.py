"""Checks of the homework on convolutional networks, exercise 5: a classifier that sweeps over images of any size."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.answers import called, tensor
from cvbook.checks.cnns_homework.budgets import draw
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["as_kernels", "best_windows", "convolutional"]

Shape = tuple[int, int, int]


@exercise("Exercise 5, neurons as kernels")
def as_kernels(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(weight, shape)``: weights (K, C h w) of neurons on flattened maps, as kernels (K, C, h, w)."""
    g = torch.Generator().manual_seed(seed)
    for K, C, h, w in ((4, 3, 2, 5), (5, 2, 3, 2), (2, 4, 1, 3), (3, 2, 2 + draw(g, 1, 3), 2)):
        maps, weight = torch.randn(2, C, h, w, generator=g), torch.randn(K, C * h * w, generator=g)
        what = f"{K} neurons on maps {(C, h, w)}"
        # which entry of a row meets which pixel is seen by flattening the numbers of the pixels
        place = torch.arange(C * h * w).view(C, h, w)
        right = torch.stack([row[place] for row in weight])
        mistakes = {
            "the axes are read in the order (h, w, C); flattening takes a channel after the other": (
                weight.view(K, h, w, C).permute(0, 3, 1, 2)
            ),
            "rows and columns are exchanged: flattening takes a row after the other": (
                weight.view(K, C, w, h).transpose(2, 3)
            ),
            "columns come before rows: the shape is (K, C, h, w)": right.transpose(2, 3),
            "the channels stand last: the shape is (K, C, h, w)": right.permute(0, 2, 3, 1),
            "the kernels are flipped; PyTorch's convolution does not flip": right.flip(2, 3),
            "input and output channels are exchanged: the shape is (K, C, h, w)": right.transpose(0, 1),
            "everything is reordered: the neurons are columns here, not rows": (
                weight.T.reshape(C * h * w, K).reshape(K, C, h, w)
            ),
        }
        got = tensor(called(answer, weight=weight, shape=(C, h, w)), what)
        equal(got, right, mistakes=mistakes, what=what)
        assert torch.allclose(F.conv2d(maps, right).flatten(1), maps.flatten(1) @ weight.T, atol=1e-4)
    return "right: each neuron is a kernel as large as the map"


@exercise("Exercise 5, a head that sweeps")
def convolutional(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(layers, shape)``: linear layers and activations as a module that takes maps of any size."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for (C, h, w), widths in (((3, 2, 4), (5, 4)), ((2, 3, 3), (6,)), ((2, 3, 2), (4, 4, 3)), ((3, 1, 2), (7, 2))):
        layers: list[nn.Module] = []
        for place, (a, b) in enumerate(itertools.pairwise((C * h * w, *widths))):
            layers += [nn.ReLU()] * (place > 0) + [nn.Linear(a, b)]
        given = copy.deepcopy(layers)
        net = answer(given, (C, h, w))
        if net is None or net is ...:
            raise NotImplementedError
        if not isinstance(net, nn.Module):
            raise Wrong(f"expected an nn.Module from convolutional(layers, shape), got {'a ' + type(net).__name__}")
        _untouched(given, layers)
        _copied(net, layers)
        for more in (3, 0, draw(g, 1, 4)):
            maps = torch.randn(2, C, h + more, w + 2 * more, generator=g)
            what = f"maps {tuple(maps.shape)}, made for {(C, h, w)}, {len(widths)} linear layer(s)"
            right = _windows(layers, maps, h, w)
            with torch.no_grad():
                got = tensor(called(net, maps=maps), what)
                equal(got, right, mistakes=_sweep_mistakes(layers, maps, (C, h, w), right), what=what)
    return "right: equal to the classifier at every window"


def _untouched(given: Sequence[nn.Module], layers: Sequence[nn.Module]) -> None:
    if len(given) != len(layers):
        raise Wrong("your function changes the list of layers in place; build a new one")
    for mine, theirs in zip(given, layers, strict=True):
        if isinstance(theirs, nn.Linear):
            weight = getattr(mine, "weight", None)
            if not isinstance(weight, Tensor) or not torch.equal(weight, theirs.weight):
                raise Wrong("your function changes the linear layers in place; the old head must still work")


def _copied(net: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Convolutions that could hold the old numbers, in any order, do hold them."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    kernels = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    for new, old in zip(kernels, linear, strict=False):
        for name in ("weight", "bias"):
            a, b = (getattr(layer, name) for layer in (new, old))
            if a is not None and a.numel() == b.numel() and not torch.equal(a.ravel().sort()[0], b.ravel().sort()[0]):
                raise Wrong(f"a convolution has random numbers as its {name}; copy the {name} of the linear layer")


def _windows(layers: Sequence[nn.Module], maps: Tensor, h: int, w: int) -> Tensor:
    """The head at every window, one after the other: (B, K, rows, columns)."""
    head, (H, W) = nn.Sequential(nn.Flatten(), *layers), maps.shape[2:]
    with torch.no_grad():
        rows = [[head(maps[:, :, i : i + h, j : j + w]) for j in range(W - w + 1)] for i in range(H - h + 1)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _sweep_mistakes(
    layers: Sequence[nn.Module], maps: Tensor, shape: Shape, right: Tensor
) -> dict[str, Callable[[], object]]:
    (C, h, w), linear = shape, [layer for layer in layers if isinstance(layer, nn.Linear)]

    def run(bias: bool = True, relu: bool = True, order: str = "") -> Tensor:
        x = maps
        for place, layer in enumerate(linear):
            weight = layer.weight.unflatten(1, (C, h, w)) if place == 0 else layer.weight[..., None, None]
            if place == 0 and order == "last":
                weight = layer.weight.view(-1, h, w, C).permute(0, 3, 1, 2)
            x = F.relu(x) if relu and place else x
            x = F.conv2d(x, weight, layer.bias if bias else None)
        return x

    def pooled(shrink: Callable[[Tensor, tuple[int, int]], Tensor]) -> Tensor:
        x = shrink(maps, (h, w)).flatten(1)
        for layer in layers:
            x = layer(x)
        return x

    return {
        "the biases are not copied": lambda: run(bias=False),
        "the activations between the layers are missing": lambda: run(relu=False),
        "a ReLU comes after the last layer; a score may be negative": lambda: F.relu(right),
        "the weights are read in the order (h, w, C); flattening takes a channel after the other": (
            lambda: run(order="last")
        ),
        "the map is shrunk to the size of the old head; keep one answer for each window": (
            lambda: pooled(F.adaptive_avg_pool2d)
        ),
        "the map is resized to that of the old head; keep one answer for each window": (
            lambda: pooled(lambda t, size: F.interpolate(t, size, mode="bilinear"))
        ),
        "only the first window is left; keep one answer for each": (
            lambda: pooled(lambda t, size: t[..., : size[0], : size[1]])
        ),
        "the answers of the windows are averaged; keep one for each": lambda: right.mean((2, 3)),
        "the answers of the windows are averaged; keep one for each window": lambda: right.mean((2, 3), keepdim=True),
        "the axes of length 1 are lost: a map with one window is (B, K, 1, 1)": lambda: right.squeeze(),
        "the axes of length 1 are lost: one window still gives (B, K, 1, 1)": lambda: right.flatten(1),
    }


@exercise("Exercise 5, the best windows")
def best_windows(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(scores, side, stride)``: for each class the box of its likeliest window."""
    g = torch.Generator().manual_seed(seed)
    for K, rows, columns, side, stride in ((3, 4, 7, 28, 4), (2, 6, 3, 10, 3), (4, 1, 5, 8, 1), (3, 5, 2 + draw(g, 1, 4), 12, 5)):  # fmt: skip  # noqa: E501
        scores = 3 * torch.randn(K, rows, columns, generator=g)
        scores = scores + 6 * torch.randn(1, rows, columns, generator=g)  # so that large scores are no large shares
        what = f"{K} classes, {rows} x {columns} windows of {side} pixels, stride {stride}"
        right = _boxes(scores.softmax(0), side, stride)
        place = _boxes(scores.softmax(0), 0, 1)[:, :2]
        mistakes = {
            "a score says something within its window only; take the shares among its classes, softmax(0)": (
                _boxes(scores, side, stride)
            ),
            "rows and columns are exchanged: (top, left, bottom, right)": right[:, [1, 0, 3, 2]],
            "the order is (top, left, bottom, right)": right[:, [0, 2, 1, 3]],
            "the stride is ignored: windows are stride pixels apart": torch.cat([place, place + side], 1),
            "one number for a place has the row n // columns and the column n % columns; this divides by the rows": (
                _boxes(scores.softmax(0), side, stride, divisor=rows)
            ),
            "windows are stride pixels apart, not side": torch.cat([place * side, (place + 1) * side], 1),
            "bottom and right are the first row and column outside: top + side": right - torch.tensor([0, 0, 1, 1]),
            "this is (top, left, height, width)": torch.cat([right[:, :2], torch.full((K, 2), side)], 1),
            "these are numbers of windows, not pixels": torch.cat([place, place + 1], 1),
            "this is the least likely window of each class": _boxes(-scores.softmax(0), side, stride),
        }
        got = tensor(called(answer, scores=scores, side=side, stride=stride), what)
        equal(got, right.double(), mistakes=mistakes, what=what)
    return "right: found without a single box in the training data"


def _boxes(shares: Tensor, side: int, stride: int, *, divisor: int | None = None) -> Tensor:
    """By looking at one window after the other; ``divisor`` is the wrong number of columns."""
    boxes = []
    for one in shares:
        windows = itertools.product(range(one.shape[0]), range(one.shape[1]))
        i, j = max(windows, key=lambda at: float(one[at]))
        if divisor:
            i, j = divmod(i * one.shape[1] + j, divisor)
        boxes.append((i * stride, j * stride, i * stride + side, j * stride + side))
    return torch.tensor(boxes)
