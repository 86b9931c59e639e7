"""Checks of the exercises of the lesson "How convolution is computed"."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.verdict import Wrong, equal, exercise
from cvbook.convolution.fast import fast_length

__all__ = ["columns_by_hand", "im2col_backward", "transform_lengths", "winograd_multiplications", "wrapped"]


@exercise("im2col by hand")
def columns_by_hand(answer: object) -> str:
    """The patches of a 2x2 kernel on the image 1 … 12 with 3 rows and 4 columns, as a matrix 4 x 6."""
    image = torch.arange(1.0, 13.0).view(1, 1, 3, 4)
    expected = F.unfold(image, 2)[0].double()
    equal(
        answer,
        expected,
        mistakes={
            "your patches are rows; a patch is a column of the matrix": lambda: expected.T,
            "you slide down first; move right along a row, then to the next row": lambda: (
                expected.view(4, 2, 3).transpose(1, 2).reshape(4, 6)
            ),
            "you read each patch column by column; read it row by row": lambda: expected[[0, 2, 1, 3]],
            "you step by 2, as if patches must not overlap; the stride is 1": lambda: F.unfold(image, 2, stride=2)[0],
        },
        what="the image 1 … 12 and a 2x2 kernel",
    )
    return "right: 4 rows, one for each weight, and 6 columns, one for each output"


@exercise("Backward through im2col")
def im2col_backward(function: Callable[[Tensor, Tensor, Tensor], object]) -> str:
    """``function(grad_y, x, weight)`` returns the gradients of x and of the weight, against autograd."""
    for case in ((1, 1, 1, (4, 4), (2, 2)), (2, 3, 4, (5, 6), (3, 2))):
        _one_backward(function, *case)
    return "right: two matrix products and one col2im"


def _one_backward(
    function: Callable, batch: int, c_in: int, c_out: int, size: tuple[int, int], k: tuple[int, int]
) -> None:
    x = torch.randn(batch, c_in, *size, requires_grad=True)
    weight = torch.randn(c_out, c_in, *k, requires_grad=True)
    y = F.conv2d(x, weight)
    grad = torch.randn_like(y)
    grad_x, grad_weight = torch.autograd.grad(y, (x, weight), grad)
    answer = function(grad.clone(), x.detach().clone(), weight.detach().clone())
    if answer is None or answer is ...:
        raise NotImplementedError
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong(f"expected a pair (gradient of x, gradient of the weight), got {type(answer).__name__}")
    overlaps = F.fold(F.unfold(torch.ones_like(x), k), size, k)
    columns, rows = F.unfold(x.detach(), k), grad.flatten(2)
    each = (rows @ columns.transpose(1, 2)).view(batch, *weight.shape)
    what = f"a batch of {batch}, {c_in} input and {c_out} output channels, kernel {k[0]}x{k[1]}"
    equal(
        answer[0],
        grad_x,
        mistakes={
            "the gradient of x is divided by the number of patches; col2im adds and does not average": lambda: (
                grad_x / overlaps
            ),
            "the two gradients are swapped: first that of x, then that of the weight": lambda: grad_weight,
            "this is the gradient of the columns; col2im adds them up into an image": lambda: (
                weight.detach().flatten(1).T @ rows
            ),
            "each pixel keeps the value of one patch only; the values of all its patches must be added": lambda: (
                _last_patch(weight.detach().flatten(1).T @ rows, size, k)
            ),
            "the gradient of x has the kernel flipped once too often; use W transposed, then col2im": lambda: (
                F.conv_transpose2d(grad, weight.detach().flip(2, 3))
            ),
        },
        what=f"the gradient of x with {what}",
    )
    equal(
        answer[1],
        grad_weight,
        mistakes={
            "the gradient of the weight is averaged over the batch; sum it": lambda: each.mean(0),
            "the gradient of the weight keeps a batch axis; sum over the batch": lambda: each,
            "the gradient of the weight uses the first image only; sum over the batch": lambda: each[0],
            "the gradient of the weight is still a matrix; give it the weight's shape": lambda: grad_weight.flatten(1),
        },
        what=f"the gradient of the weight with {what}",
    )


def _last_patch(columns: Tensor, size: tuple[int, int], k: tuple[int, int]) -> Tensor:
    """col2im that overwrites where it should add."""
    height, width = size[0] - k[0] + 1, size[1] - k[1] + 1
    patches = columns.view(len(columns), -1, *k, height, width)
    canvas = columns.new_zeros(len(columns), patches.shape[1], *size)
    for i in range(k[0]):
        for j in range(k[1]):
            canvas[:, :, i : i + height, j : j + width] = patches[:, :, i, j]
    return canvas


@exercise("Winograd's multiplications")
def winograd_multiplications(function: Callable[[int, int, int, int], object]) -> str:
    """``function(height, width, c_in, c_out)`` counts the products of F(2x2, 3x3) for that output size."""
    for case in ((7, 9, 3, 5), (56, 56, 64, 64), (2, 2, 1, 1), (1, 8, 2, 5)):
        _one_count(function, *case)
    return "right: 16 for each tile and pair of channels"


def _one_count(function: Callable, height: int, width: int, c_in: int, c_out: int) -> None:
    tiles = -(-height // 2) * -(-width // 2)
    pairs = c_in * c_out
    equal(
        function(height, width, c_in, c_out),
        torch.tensor(float(16 * tiles * pairs)).double(),
        mistakes={
            "an odd last row or column is lost; it needs a tile of its own: round up": lambda: (
                16 * (height // 2) * (width // 2) * pairs
            ),
            "you count 4 for each output; at an odd size the last tile costs 16 all the same: round up": lambda: (
                4 * height * width * pairs
            ),
            "that is the direct count, 9 for each output": lambda: 9 * height * width * pairs,
            "36 is what a tile costs directly; Winograd takes 4 x 4 = 16": lambda: 36 * tiles * pairs,
            "you count a tile for each output; a tile makes 2 x 2 outputs": lambda: 16 * height * width * pairs,
            "every pair of an input and an output channel needs its own products": lambda: 16 * tiles,
            "input channels are missing: each output channel sees all of them": lambda: 16 * tiles * c_out,
            "channels multiply: every input channel meets every output channel": lambda: 16 * tiles * (c_in + c_out),
            "tiles of 4x4 inputs overlap: each makes 2x2 outputs, so step by 2, not by 4": lambda: (
                16 * -(-height // 4) * -(-width // 4) * pairs
            ),
        },
        what=f"an output of {height}x{width} with {c_in} input and {c_out} output channels",
    )


@exercise("Length of the transform")
def transform_lengths(function: Callable[[int, int], object]) -> str:
    """``function(n, k)`` returns the least lengths for the outputs of "valid" and of "full", found here by trying."""
    for case in ((10, 4), (8, 1), (16, 7), (9, 9)):  # 10 and 4 tell n + k, powers of two and fast lengths apart
        _one_length(function, *case)
    return "right: n without padding, n + k - 1 for the full result"


def _one_length(function: Callable, n: int, k: int) -> None:
    expected = torch.tensor([_least_length(n, k, full=False), _least_length(n, k, full=True)])
    full = n + k - 1

    def power(length: int) -> int:
        return 1 << (length - 1).bit_length()

    equal(
        function(n, k),
        expected,
        mistakes={
            "one sample too many for the full result: n + k - 1 outputs exist": lambda: [n, n + k],
            "a power of two is fast, but longer than needed for the full result": lambda: [n, power(full)],
            "powers of two are fast, but longer than needed": lambda: [power(n), power(full)],
            "a length without large prime factors is fast, but longer than needed": lambda: [
                fast_length(n),
                fast_length(full),
            ],
            "the full result has n + k - 1 outputs; a shorter transform adds the two ends": lambda: [n, n],
            "without padding no window reaches beyond the image: its length is enough": lambda: (
                [n + k - 1, n + k - 1]
            ),
            "n - k + 1 is the number of outputs; the image itself must fit into the transform": lambda: (
                [n - k + 1, n + k - 1]
            ),
            "the two are swapped: first without padding, then the full result": lambda: [n + k - 1, n],
        },
        what=f"{n} samples and a kernel of {k}",
    )


def _least_length(n: int, k: int, *, full: bool) -> int:
    """The least transform, at least as long as the image, whose circular result holds the linear one."""
    x, kernel = torch.rand(n).double() + 1, torch.rand(k).double() + 1
    padded = F.pad(x, (k - 1, k - 1)) if full else x
    linear = F.conv1d(padded[None, None], kernel[None, None])[0, 0]
    for length in range(max(n, k), 2 * (n + k)):
        circular = torch.fft.irfft(torch.fft.rfft(x, length) * torch.fft.rfft(kernel, length).conj(), length)
        circular = circular.roll(k - 1) if full else circular
        if len(circular) >= len(linear) and torch.allclose(circular[: len(linear)], linear):
            return length
    raise AssertionError("a transform of length n + k - 1 always suffices")


@exercise("Wrap-around")
def wrapped(function: Callable[[int, int, int, int], object]) -> str:
    """``function(height, width, k_h, k_w)`` marks the outputs of an unpadded FFT that mix opposite sides."""
    for case in ((6, 8, 3, 2), (5, 5, 1, 4), (7, 4, 2, 2)):
        _one_wrap(function, *case)
    return "right: the last k - 1 rows and columns"


def _one_wrap(function: Callable, height: int, width: int, k_h: int, k_w: int) -> None:
    x, kernel = torch.rand(1, 1, height, width) + 1, torch.ones(1, 1, k_h, k_w)
    around = F.conv2d(F.pad(x, (0, k_w - 1, 0, k_h - 1), mode="circular"), kernel)
    nothing = F.conv2d(F.pad(x, (0, k_w - 1, 0, k_h - 1)), kernel)
    expected = ((around - nothing).abs() > 0.5)[0, 0].double()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    low, right = rows > height - k_h, columns > width - k_w
    equal(
        function(height, width, k_h, k_w),
        expected,
        mistakes={
            "you mark only the corner; leaving the image on one side is enough: use or, not and": lambda: low & right,
            "you mark the first rows and columns; that is where a flipped kernel wraps": lambda: expected.flip(0, 1),
            "one row and column too many: the window at height - k still fits": lambda: (
                (rows >= height - k_h) | (columns >= width - k_w)
            ),
            "these are the good outputs; mark the others": lambda: 1 - expected,
            "height and width of the kernel are swapped": lambda: (rows > height - k_w) | (columns > width - k_h),
            "with k = 1, m[-(k - 1):] is m[0:], the whole axis; count from the start, m[height - k + 1:]": lambda: (
                torch.ones(height, width) if min(k_h, k_w) == 1 else None
            ),
            "you center the kernel; here tap (0, 0) lies on the output's own pixel": lambda: expected.roll(
                (-((k_h - 1) // 2) or 0, -((k_w - 1) // 2) or 0), (0, 1)
            ),
        },
        what=f"an image of {height}x{width} and a kernel of {k_h}x{k_w}",
    )
