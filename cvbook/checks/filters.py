"""Checks of the lesson *Filters and convolution*."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["append_sum", "best_sigma", "compose", "contributions", "convolve2d", "parameters"]


@exercise("True convolution")
def convolve2d(answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """``answer(image, kernel)`` is the "valid" 2-D convolution, with the kernel turned by half a turn."""

    def try_on(image: torch.Tensor, kernel: torch.Tensor) -> None:
        (h, w), size = kernel.shape, "x".join(map(str, image.shape))
        framed = F.pad(image, (w - 1, w - 1, h - 1, h - 1))
        equal(
            answer(image.clone(), kernel.clone()),
            _correlate(image, kernel.flip(0, 1)),
            mistakes={
                "this is cross-correlation; pair kernel[u, v] with image[i + h - 1 - u, j + w - 1 - v]": (
                    lambda: _correlate(image, kernel)
                ),
                "flipped upside down only; flip left and right as well": lambda: _correlate(image, kernel.flip(0)),
                "flipped left to right only; flip up and down as well": lambda: _correlate(image, kernel.flip(1)),
                "the kernel is transposed; swap no axes, reverse both": lambda: _correlate(image, kernel.T),
                "the border is padded; keep only the places where the whole kernel fits": (
                    lambda: _correlate(framed, kernel.flip(0, 1))
                ),
                "image[i - u, j - v] reaches negative indices, which Python counts from the end, without an error; "
                "write image[i + h - 1 - u, j + w - 1 - v]": lambda: _textbook(image, kernel),
                "each product overwrites the one before; collect them with += instead of =": (
                    lambda: image[: 1 - h or None, : 1 - w or None] * kernel[-1, -1]
                ),
                "each product overwrites the one before; collect them with += instead of =, and flip the kernel": (
                    lambda: image[h - 1 :, w - 1 :] * kernel[-1, -1]
                ),
            },
            what=f"a {size} image and a {h}x{w} kernel",
        )

    for image_size, kernel_size in (((5, 7), (3, 2)), ((4, 4), (1, 3)), ((3, 6), (3, 3))):
        try_on(torch.rand(image_size), torch.rand(kernel_size))
    return "right: both axes are flipped, also where image and kernel are not square"


@exercise("Count the parameters")
def parameters(answer: Callable[[int, int, int], int]) -> str:
    """``answer(c_in, k, c_out)`` counts the weights and biases of a convolutional layer with square kernels."""

    def try_on(c_in: int, k: int, c_out: int) -> None:
        layer = torch.nn.Conv2d(c_in, c_out, k)
        equal(
            answer(c_in, k, c_out),
            torch.tensor(float(sum(p.numel() for p in layer.parameters()))),
            mistakes={
                "the biases are missing: one for each output channel": lambda: c_in * k * k * c_out,
                "an output channel has a k x k slice for every input channel, not one for all": (
                    lambda: k * k * c_out + c_out
                ),
                "there is one bias for each output channel, not for each input channel": (
                    lambda: c_in * k * k * c_out + c_in
                ),
                "there is one bias for each output channel, not for each slice of its kernel": (
                    lambda: (k * k + 1) * c_in * c_out
                ),
                "there is one bias for each output channel, not one for the layer": lambda: c_in * k * k * c_out + 1,
                "this is one output channel; the layer has C_out of them": lambda: c_in * k * k + 1,
                "a slice has k rows and k columns: k * k numbers": lambda: c_in * k * c_out + c_out,
            },
            what=f"C_in = {c_in}, k = {k}, C_out = {c_out}",
        )

    for case in ((3, 5, 64), (16, 3, 6), (7, 1, 2)):
        try_on(*case)
    return "right: as many as nn.Conv2d allocates"


@exercise("One output pixel, taken apart")
def contributions(answer: Callable[..., torch.Tensor]) -> str:
    """``answer(x, weight, out_channel, row, column)`` is ``(C_in,)``: each input channel's part of one output pixel."""

    def try_on(channel: int, row: int, column: int) -> None:
        x, weight = torch.rand(4, 6, 7), torch.rand(4, 4, 3, 2)
        kernel, window = weight[channel], x[:, row : row + 3, column : column + 2]
        equal(
            answer(x.clone(), weight.clone(), channel, row, column),
            (window * kernel).sum((1, 2)),
            mistakes={
                "every input channel met the same slice; channel c needs weight[out_channel, c]": (
                    lambda: (window * kernel[0]).sum((1, 2))
                ),
                "the first two axes of the kernel are swapped: the output channel comes first": (
                    lambda: (window * weight[:, channel]).sum((1, 2))
                ),
                "these are the products; add up each channel's over rows and columns": lambda: window * kernel,
                "this is the finished pixel; keep one number for each input channel": lambda: (window * kernel).sum(),
                "the kernel is flipped; F.conv2d does not flip": lambda: (window * kernel.flip(1, 2)).sum((1, 2)),
                "row and column are swapped": (lambda: (x[:, column : column + 3, row : row + 2] * kernel).sum((1, 2))),
            },
            what=f"output channel {channel}, row {row}, column {column}",
        )

    for case in ((2, 1, 3), (0, 3, 0), (3, 0, 4)):
        try_on(*case)
    return "right: one number for each input channel; their sum is the output pixel"


@exercise("Append R + G")
def append_sum(weight: torch.Tensor) -> str:
    """``weight`` is a 1x1 kernel that keeps R, G and B and appends a fourth channel R + G."""
    weight = torch.as_tensor(weight).detach().float()
    if not weight.any():
        raise Wrong("all weights are zero; write a 1 wherever an output channel takes from an input channel")
    shapes = {
        (3, 4, 1, 1): "the axes are swapped: a kernel is (output channels, input channels, 1, 1)",
        (4, 3): "a kernel is a 4-D tensor; append two axes of length 1: weight[:, :, None, None]",
        (1, 3, 1, 1): "this gives only the new channel; three more rows must keep R, G and B",
        (3, 3, 1, 1): "with three output channels one color is overwritten; append a fourth row",
    }
    shape = tuple(weight.shape)
    if shape != (4, 3, 1, 1):
        raise Wrong(shapes.get(shape, f"expected (4, 3, 1, 1): 4 output channels, 3 input channels; got {shape}"))
    x = torch.rand(2, 3, 4, 5)
    red, green, blue = x.split(1, dim=1)
    equal(
        F.conv2d(x, weight),
        torch.cat([x, red + green], 1),
        mistakes={
            "the new channel is the mean of R and G, not their sum": lambda: torch.cat([x, (red + green) / 2], 1),
            "the new channel adds all three colors; leave blue out": lambda: torch.cat([x, red + green + blue], 1),
            "the new channel is G + B; the columns are R, G, B": lambda: torch.cat([x, green + blue], 1),
            "the new channel comes first; append it as the last row": lambda: torch.cat([red + green, x], 1),
        },
        what="two random color images",
    )
    return "right, with 12 weights"


@exercise("The best blur")
def best_sigma(answer: float, curve: dict[float, float]) -> str:
    """``answer`` is the sigma with the smallest error in ``curve``, {sigma: mean squared error} as measured."""
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        raise Wrong(f"expected one number, a sigma in pixels; got {type(answer).__name__}")
    if len(curve) < 5:
        raise Wrong(f"expected errors for at least 5 values of sigma, got {len(curve)}; measure more")
    best, worst = min(curve, key=lambda s: curve[s]), max(curve, key=lambda s: curve[s])
    if abs(answer - curve[best]) < 1e-9:
        raise Wrong("this is the smallest error; the answer is the sigma that reaches it")
    if answer == worst:
        raise Wrong("this sigma has the largest error; look for the smallest")
    if best in (min(curve), max(curve)):
        raise Wrong(f"the smallest error lies at the end of your range, at sigma = {best:g}; measure beyond it")
    if abs(answer - best) > 1e-6:
        raise Wrong(f"your own measurements have a smaller error at another sigma than at {answer:g}")
    if not 0.8 <= best <= 1.3:
        low, high = (
            (max(s for s in curve if s < best), best) if best > 1.3 else (best, min(s for s in curve if s > best))
        )
        if low <= 0.91 and high >= 1.3:  # the valley lies in this gap, so the measurements can be right
            raise Wrong(
                f"your best is {best:g}, but you measured nothing between {low:g} and {high:g}; add values there"
            )
        raise Wrong(
            f"your errors are smallest at sigma = {best:g}, which this noise does not give; compare the blurred noisy "
            "image with the clean one, and let the kernel be at least 6 sigma wide"
        )
    return f"right: sigma = {answer:g}; less leaves noise, more removes the cat"


@exercise("Two filters in one")
def compose(answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """``answer(a, b)`` is the one kernel that does what correlating with a, and then with b, does."""

    def try_on(a: torch.Tensor, b: torch.Tensor) -> None:
        (h, w), (rows, columns) = a.shape, b.shape
        framed = F.pad(a, (columns - 1, columns - 1, rows - 1, rows - 1))
        expected = _correlate(framed, b.flip(0, 1))
        equal(
            answer(a.clone(), b.clone()),
            expected,
            mistakes={
                "this is the cross-correlation of the kernels; they must be convolved, so flip b": (
                    lambda: _correlate(framed, b)
                ),
                "this is the cross-correlation of b with a; they must be convolved, so flip a": (
                    lambda: _correlate(framed, b).flip(0, 1)
                ),
                "this is right but turned by half a turn; flip b and nothing else": lambda: expected.flip(0, 1),
                "the kernels are multiplied place by place; add one shifted copy of a for every number of b": (
                    lambda: a * b
                ),
                "the kernels are added, which adds two outputs; it does not chain them": lambda: a + b,
                "the rim is missing: two 3x3 kernels in a row look at 5x5 pixels": (
                    lambda: _correlate(F.pad(a, ((columns - 1) // 2,) * 2 + ((rows - 1) // 2,) * 2), b.flip(0, 1))
                ),
            },
            what=f"kernels of {h}x{w} and {rows}x{columns}",
        )

    for size_a, size_b in (((3, 3), (3, 3)), ((1, 3), (2, 1)), ((2, 3), (3, 4))):
        try_on(torch.rand(size_a), torch.rand(size_b))
    return "right: it is the full convolution of the two kernels"


def _textbook(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """The sum over kernel[u, v] image[i - u, j - v] as Python indexes it: -1 is the last row."""
    (H, W), (h, w) = image.shape, kernel.shape
    shifted = [kernel[u, v] * image.roll((u, v), (0, 1)) for u in range(h) for v in range(w)]
    return torch.stack(shifted).sum(0)[: H - h + 1, : W - w + 1]


def _correlate(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return F.conv2d(image[None, None], kernel[None, None])[0, 0]
