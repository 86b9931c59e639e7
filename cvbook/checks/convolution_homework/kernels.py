"""Checks of the homework on convolution, exercises 1, 3 and 4: loops, 1x1 kernels, average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import called
from cvbook.checks.by_hand import by_hand
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = [
    "append_kernel", "average_pool_result", "average_pool_weight", "correlate2d", "correlate2d_integers",
    "correlate_bias", "correlate_channels", "grey_kernel",
]  # fmt: skip

Mistakes = dict[str, Callable[[], object]]
Pool = Callable[[int, int], dict[str, Any]]
LUMA = (0.299, 0.587, 0.114)


def correlated(image: Tensor, kernel: Tensor) -> Tensor:
    """Cross-correlation of ``(H, W)`` with ``(kh, kw)``, by the library."""
    return F.conv2d(image[None, None], kernel[None, None])[0, 0]


@exercise("Exercise 1, correlate2d")
def correlate2d(answer: Callable[[Tensor, Tensor], Tensor], *, seed: int = 0) -> str:
    """``answer(image, kernel)`` against the library on images and kernels that are not square."""
    g = torch.Generator().manual_seed(seed)
    for size, window in [((5 + seed % 5, 7), (3, 2)), ((6, 4 + seed % 5), (2, 3)), ((4, 3), (4, 3)), ((2, 3), (1, 1))]:
        _correlate2d(answer, torch.randn(size, generator=g), torch.randn(window, generator=g))
    return "right, and not flipped"


def _correlate2d(answer: Callable[[Tensor, Tensor], Tensor], image: Tensor, kernel: Tensor) -> None:
    right, (height, width), (kh, kw) = correlated(image, kernel), image.shape, kernel.shape
    what = f"a {height}x{width} image and a {kh}x{kw} kernel"
    got = called(by_hand(answer, "F.conv2d"), image=image, kernel=kernel)
    if kernel.numel() > 1 and getattr(got, "shape", None) == image.shape:
        raise Wrong(f"the result is as large as the image for {what}: without padding the kernel lies inside it")
    mistakes: Mistakes = {
        "this is a true convolution: the kernel is flipped; slide it over the image as it is": (
            lambda: correlated(image, kernel.flip(0, 1))
        ),
        "the kernel is upside down: its first row must meet the upper row of the window": (
            lambda: correlated(image, kernel.flip(0))
        ),
        "the kernel is mirrored: its first column must meet the left column of the window": (
            lambda: correlated(image, kernel.flip(1))
        ),
        "the last row and column are missing: a kernel of height kh fits at H - kh + 1 places": lambda: right[:-1, :-1],
        "height and width are exchanged in the result": lambda: right.T,
        "the products are averaged; add them up": lambda: right / kernel.numel(),
        "only the last product of each window is kept; add them up with +=": (
            lambda: image[kh - 1 :, kw - 1 :] * kernel[-1, -1]
        ),
        "the sum goes on from one place to the next; start each place at 0": (
            lambda: right.flatten().cumsum(0).view(right.shape)
        ),
        "the sum goes on along each row; start each place at 0": lambda: right.cumsum(1),
    }
    equal(got, right, mistakes=mistakes, what=what)


@exercise("Exercise 1, correlate2d of whole numbers")
def correlate2d_integers(answer: Callable[[Tensor, Tensor], Tensor], *, seed: int = 0) -> str:
    """The same function on an image of whole numbers 0 to 255 and a kernel of fractions."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (6, 5), generator=g)
    kernel = torch.randint(-9, 10, (2, 3), generator=g) / 8
    right = correlated(image.float(), kernel)
    cut = "the result is cut to whole numbers: make it with torch.zeros(height, width), not with the image's dtype"
    lost = "the kernel is cut to whole numbers before it is used: turn the image into floats, not the kernel into ints"
    mistakes: Mistakes = {
        cut: lambda: right.trunc(),
        cut + " (or round)": lambda: right.floor(),
        lost: lambda: correlated(image.float(), kernel.trunc()),
    }
    got = called(by_hand(answer, "F.conv2d"), image=image, kernel=kernel)
    equal(got, right, mistakes=mistakes, what="a 6x5 image of whole numbers and a kernel of eighths")
    return "right, fractions kept"


@exercise("Exercise 1, many channels")
def correlate_channels(answer: Callable[..., Tensor], *, seed: int = 0) -> str:
    """``answer(x, weight)`` without a bias; equally many channels first, so that exchanged axes do not crash."""
    g = torch.Generator().manual_seed(seed)
    for c_in, c_out in [(3, 3), (2, 4), (4 + seed % 5, 1)]:
        _channels(answer, torch.randn(c_in, 6, 5 + seed % 5, generator=g), torch.randn(c_out, c_in, 3, 2, generator=g))
    return "right, every output channel sees every input channel"


def _channels(answer: Callable[..., Tensor], x: Tensor, weight: Tensor) -> None:
    c_out, c_in = weight.shape[:2]
    right = F.conv2d(x[None], weight)[0]
    parts = torch.stack([F.conv2d(x[None], w[:, None], groups=c_in)[0] for w in weight])
    mistakes: Mistakes = {
        "the input channels are kept apart: one output channel is the sum over all of them": lambda: parts,
        "each output channel sees one input channel only; it must see all of them": (
            lambda: parts.diagonal().permute(2, 0, 1)
        ),
        "the same kernel is used for every input channel; weight[o] holds one for each": (
            lambda: F.conv2d(x.sum(0)[None, None], weight[:, :1])[0]
        ),
        "only the first input channel is used": lambda: parts[:, 0],
        "only the last input channel is kept; add the channels up with +=": lambda: parts[:, -1],
        "the sum goes on from one output channel to the next; start each output channel at 0": lambda: right.cumsum(0),
        "the channels are averaged; add them up": lambda: right / c_in,
        "output and input channels are exchanged: weight is (C_out, C_in, kh, kw)": (
            lambda: F.conv2d(x[None], weight.transpose(0, 1))[0]
        ),
        "this is a true convolution: the kernels are flipped": lambda: F.conv2d(x[None], weight.flip(2, 3))[0],
    }
    got = _stacked(called(by_hand(answer, "F.conv2d"), x=x, weight=weight))
    equal(got, right, mistakes=mistakes, what=f"{c_in} input and {c_out} output channels")


def _stacked(got: object) -> object:
    if isinstance(got, (list, tuple)) and all(isinstance(part, Tensor) for part in got):
        raise Wrong(f"got a {type(got).__name__} of output channels; torch.stack makes them one tensor")
    return got


@exercise("Exercise 1, bias")
def correlate_bias(answer: Callable[..., Tensor], *, seed: int = 0) -> str:
    """``answer(x, weight, bias)``: one number for each output channel, added once."""
    g = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(3, 5, 6, generator=g), torch.randn(4, 3, 2, 2, generator=g)
    bias = torch.randn(4, generator=g) + 1
    plain = F.conv2d(x[None], weight)[0]
    add = bias[:, None, None]
    mistakes: Mistakes = {
        "the bias is missing": lambda: plain,
        "the bias is added once for each input channel; add it once, after the sum": lambda: plain + 3 * add,
        "the bias is added once for each weight; add it once, after the sum": lambda: plain + 12 * add,
        "the bias is subtracted": lambda: plain - add,
        "all output channels get the same bias; channel o gets bias[o]": lambda: plain + bias[0],
        "the sum of all biases is added; channel o gets bias[o]": lambda: plain + bias.sum(),
        "the sum goes on from one output channel to the next; start each output channel at 0": (
            lambda: (plain + add).cumsum(0)
        ),
    }
    got = _stacked(called(by_hand(answer, "F.conv2d"), x=x, weight=weight, bias=bias))
    equal(got, plain + add, mistakes=mistakes, what="3 input channels, 4 output channels and a bias")
    return "right, added once to each output channel"


def _weight(answer: Callable[[], object], shape: tuple[int, ...], meaning: str) -> Tensor:
    got = answer()
    if got is None or got is ...:
        raise NotImplementedError
    weight = torch.as_tensor(got).detach().float()
    if weight.shape == shape:
        return weight
    if len(weight.shape) == 4 and weight.shape == (shape[1], shape[0], *shape[2:]):
        raise Wrong(f"output and input channels are exchanged: expected {shape}, got {tuple(weight.shape)}")
    if shape[0] == 4 and weight.shape == (3, 3, 1, 1):
        raise Wrong("there are only 3 output channels: the sum overwrites a channel; append a fourth, (4, 3, 1, 1)")
    if shape[0] == 4 and weight.shape == (1, 3, 1, 1):
        raise Wrong("this gives the sum alone; R, G and B must come out as well, so the shape is (4, 3, 1, 1)")
    raise Wrong(f"expected the shape {shape}, {meaning}, got {tuple(weight.shape)}")


@exercise("Exercise 3, grey")
def grey_kernel(answer: Callable[[], Tensor], *, seed: int = 0) -> str:
    """``answer()`` is a weight ``(1, 3, 1, 1)`` that gives the luma of a random image."""
    weight = _weight(answer, (1, 3, 1, 1), "one output channel from three input channels")
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    luma = torch.tensor(LUMA)[:, None, None]
    mistakes: Mistakes = {
        "this is the mean of R, G and B; luma weighs them 0.299, 0.587 and 0.114": lambda: x.mean(1, keepdim=True),
        "this is the sum of R, G and B, up to three times too bright": lambda: x.sum(1, keepdim=True),
        "the order is B, G, R; the channels come as R, G, B": lambda: (x * luma.flip(0)).sum(1, keepdim=True),
    }
    equal(F.conv2d(x, weight), (x * luma).sum(1, keepdim=True), mistakes=mistakes, what="a random RGB image")
    return "right, three numbers turn color into grey"


@exercise("Exercise 3, append a channel")
def append_kernel(answer: Callable[[], Tensor], *, seed: int = 0) -> str:
    """``answer()`` is a weight ``(4, 3, 1, 1)``: R, G, B, R + G."""
    weight = _weight(answer, (4, 3, 1, 1), "four output channels from three input channels")
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    r, green, b = x.split(1, dim=1)
    mistakes: Mistakes = {
        "the new channel comes first; append it as the last one": lambda: torch.cat([r + green, r, green, b], 1),
        "the new channel is the mean (R + G)/2; the sum is asked for": (
            lambda: torch.cat([r, green, b, (r + green) / 2], 1)
        ),
        "the new channel is R + B; R + G is asked for": lambda: torch.cat([r, green, b, r + b], 1),
        "the new channel is R + G + B; R + G is asked for": lambda: torch.cat([r, green, b, r + green + b], 1),
        "the first three channels are empty; they must be R, G and B themselves": (
            lambda: torch.cat([r * 0, r * 0, r * 0, r + green], 1)
        ),
    }
    equal(F.conv2d(x, weight), torch.cat([r, green, b, r + green], 1), mistakes=mistakes, what="a random RGB image")
    return "right, R, G, B and R + G"


SETTINGS = ("weight", "stride", "groups")


def _settings(answer: Pool, channels: int, k: int) -> dict[str, Any]:
    settings = answer(channels, k)
    if settings is None or settings is ...:
        raise NotImplementedError
    if not isinstance(settings, dict) or set(settings) != set(SETTINGS):
        got = sorted(settings) if isinstance(settings, dict) else type(settings).__name__
        raise Wrong(f"expected a dict with the keys weight, stride and groups, got {got}")
    return {**settings, "weight": torch.as_tensor(settings["weight"]).detach().float()}


@exercise("Exercise 4, weights")
def average_pool_weight(answer: Pool, *, seed: int = 0) -> str:
    """``answer(channels, k)["weight"]`` is ``(channels, 1, k, k)``, filled with 1/k^2."""
    for channels, k in [(3, 2), (5 + seed % 5, 3)]:
        _pool_weight(_settings(answer, channels, k)["weight"], channels, k)
    return "right, k² weights of 1/k² for each channel"


def _pool_weight(weight: Tensor, channels: int, k: int) -> None:
    what = f"{channels} channels and k = {k}"
    if weight.shape == (channels, channels, k, k):
        raise Wrong(f"this weight lets every output channel see every input channel; for {what} each sees its own")
    right = torch.full((channels, 1, k, k), 1 / k**2)
    mistakes: Mistakes = {
        "the weights are 1/k; a window has k times k pixels": lambda: right * k,
        "// divides whole numbers and gives 0; divide with /": lambda: 0 * right,
        "the weights are 1; this adds up the window": lambda: right * k**2,
        "the weights also divide by the number of channels; each channel is averaged by itself": (
            lambda: right / channels
        ),
    }
    equal(weight, right, mistakes=mistakes, what=what)


@exercise("Exercise 4, result")
def average_pool_result(answer: Pool, *, seed: int = 0) -> str:
    """``F.conv2d(x, **answer(channels, k))`` against ``F.avg_pool2d(x, k)``."""
    g = torch.Generator().manual_seed(seed)
    for channels, k in [(3, 2), (4 + seed % 5, 3)]:
        _pool(_settings(answer, channels, k), torch.randn(2, channels, 7, 8, generator=g), k)
    return "right, equal to F.avg_pool2d"


def _pool(settings: dict[str, Any], x: Tensor, k: int) -> None:
    channels, right = x.shape[1], F.avg_pool2d(x, k)
    what = f"{channels} channels and k = {k}"
    try:
        got = F.conv2d(x, **settings)
    except (RuntimeError, TypeError) as error:
        shape, groups = tuple(settings["weight"].shape), settings["groups"]
        reason = "groups must be the number of channels" if groups != channels else str(error).splitlines()[0]
        raise Wrong(f"F.conv2d refuses weight {shape} with groups={groups} for {what}: {reason}") from None
    mistakes: Mistakes = {
        "the windows overlap: the stride is 1, and pooling steps by k": lambda: F.avg_pool2d(x, k, stride=1),
        "the channels are mixed: every output channel averages all of them; set groups=channels": (
            lambda: right.mean(1, keepdim=True).expand_as(right)
        ),
        "the channels are added together; set groups=channels": (lambda: right.sum(1, keepdim=True).expand_as(right)),
        "the weights are 1/k; a window has k times k pixels": lambda: right * k,
    }
    equal(got, right, mistakes=mistakes, what=what)
