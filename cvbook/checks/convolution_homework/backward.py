"""Checks of the homework on convolution, exercise 8: the way back through im2col."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import Stopped, called
from cvbook.checks.by_hand import by_hand
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["col2im_overlaps", "col2im_stride_padding", "input_gradient"]

Mistakes = dict[str, Callable[[], object]]
Settings = tuple[int, int, int]  # kernel size, stride, padding


def _wrong_fold(columns: Tensor, size: tuple[int, int], settings: Settings, mistake: str) -> Tensor:
    """Put columns back by loops, with a mistake: overwrite, average, order, places, stride, crop, keep."""
    k, stride, padding = settings
    height, width = size[0] + 2 * padding, size[1] + 2 * padding
    channels, across, down = len(columns) // k**2, (width - k) // stride + 1, (height - k) // stride + 1
    patches = columns.T.reshape(-1, channels, k, k)
    if mistake == "order":
        patches = columns.T.reshape(-1, k, k, channels).permute(0, 3, 1, 2)
    image, count = torch.zeros(channels, height, width), torch.zeros(height, width)
    for n, patch in enumerate(patches):
        step = 1 if mistake == "stride" else stride
        top, left = n // across * step, n % across * step
        if mistake == "places":
            top, left = n % down * step, n // down * step
        window = image[:, top : top + k, left : left + k]
        window.copy_(patch if mistake == "overwrite" else window + patch)
        count[top : top + k, left : left + k] += 1
    if mistake == "average":
        image = image / count.clamp(min=1)
    if mistake == "keep":
        return image
    start = 0 if mistake == "crop" else padding
    return image[:, start : start + size[0], start : start + size[1]]


def _fold(answer: Callable[..., Tensor], size: tuple[int, int], settings: Settings, g: torch.Generator) -> None:
    k, stride, padding = settings
    empty = F.unfold(torch.zeros(1, 2, *size), k, stride=stride, padding=padding)[0]
    columns = torch.randn(empty.shape, generator=g)
    mistakes: Mistakes = {
        "overlapping patches overwrite each other; add them up with +=": (
            lambda: _wrong_fold(columns, size, settings, "overwrite")
        ),
        "overlapping patches are averaged; a gradient adds up over all uses of a pixel": (
            lambda: _wrong_fold(columns, size, settings, "average")
        ),
        "the rows of a column are in the wrong order: channel first, then row, then column of the patch": (
            lambda: _wrong_fold(columns, size, settings, "order")
        ),
        "the places are counted column by column; place n is in row n // W' and column n % W'": (
            lambda: _wrong_fold(columns, size, settings, "places")
        ),
        "the padding is still there; cut it off on all four sides before you return": (
            lambda: _wrong_fold(columns, size, settings, "keep")
        ),
        "the padding is cut off at the bottom and right only; the image starts at row and column padding": (
            lambda: _wrong_fold(columns, size, settings, "crop")
        ),
        "the stride is ignored: patches start stride pixels apart": (
            lambda: _wrong_fold(columns, size, settings, "stride")
        ),
    }
    right = F.fold(columns[None], size, k, stride=stride, padding=padding)[0]
    what = f"a {size[0]}x{size[1]} image, kernel {k}, stride {stride} and padding {padding}"
    try:
        got = called(by_hand(answer, "F.fold"), columns=columns, size=size, k=k, stride=stride, padding=padding)
    except Stopped as error:
        if not padding or "must match" not in str(error):
            raise
        edge = (
            "a patch reaches over the edge: with padding, W' = (W + 2 * padding - k) // stride + 1 places fit in a row"
        )
        raise Wrong(f"your code stopped with RuntimeError for {what}; {edge}") from None
    equal(got, right, mistakes=mistakes, what=what)


@exercise("Exercise 8, overlaps")
def col2im_overlaps(answer: Callable[..., Tensor], *, seed: int = 0) -> str:
    """``answer(columns, size, k, stride, padding)`` at stride 1 without padding, against ``F.fold``."""
    g = torch.Generator().manual_seed(seed)
    for settings in [(2, 1, 0), (3, 1, 0)]:
        _fold(answer, (6, 7 + seed % 5), settings, g)
    return "right, overlaps add up"


@exercise("Exercise 8, stride and padding")
def col2im_stride_padding(answer: Callable[..., Tensor], *, seed: int = 0) -> str:
    """The same function with strides 2 and 3 and with padding."""
    g = torch.Generator().manual_seed(seed)
    for settings in [(3, 1, 1), (3, 2, 0), (3, 2, 1), (2, 3, 1), (5, 1, 3)]:
        _fold(answer, (6, 7 + seed % 5), settings, g)
    return "right, with stride and padding"


@exercise("Exercise 8, gradient")
def input_gradient(answer: Callable[..., Tensor], *, seed: int = 0) -> str:
    """``answer(grad, weight, size, stride, padding)`` against autograd."""
    g = torch.Generator().manual_seed(seed)
    for c_in, c_out, stride, padding in [(3, 3, 1, 1), (2, 4, 2, 1), (3, 1, 1, 0)]:
        x, weight = torch.randn(1, c_in, 5, 6 + seed % 5, generator=g), torch.randn(c_out, c_in, 3, 3, generator=g)
        _gradient(answer, x, weight, stride, padding, g)
    return "right, equal to autograd"


def _gradient(
    answer: Callable[..., Tensor], x: Tensor, weight: Tensor, stride: int, padding: int, g: torch.Generator
) -> None:
    x.requires_grad_()
    y = F.conv2d(x, weight, stride=stride, padding=padding)
    grad, size = torch.randn(y.shape, generator=g), (x.shape[2], x.shape[3])
    (right,) = torch.autograd.grad(y, x, grad)

    def back(w: Tensor) -> Tensor:
        columns = w.reshape(len(w), -1).T @ grad[0].flatten(1)
        return F.fold(columns[None], size, 3, stride=stride, padding=padding)[0]

    mistakes: Mistakes = {
        "the kernels are flipped once too often; M transposed times the gradient needs no flip": (
            lambda: back(weight.flip(2, 3))
        ),
        "output and input channels are exchanged: reshape weight to (C_out, C_in k k), then transpose": (
            lambda: back(weight.transpose(0, 1))
        ),
        "this convolves the gradient with the same kernels; the gradient goes back through M transposed": (
            lambda: F.conv2d(grad, weight, stride=stride, padding=padding)[0]
        ),
    }
    what = f"{weight.shape[1]} input and {len(weight)} output channels, stride {stride} and padding {padding}"
    given = {"grad": grad[0], "weight": weight, "size": size, "stride": stride, "padding": padding}
    got = called(by_hand(answer, "F.fold", "F.conv2d"), **given)
    equal(got, right[0], mistakes=mistakes, what=what)
