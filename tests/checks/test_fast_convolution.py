"""Each check accepts right answers and names the mistake of wrong ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cvbook.checks import fast_convolution as checks
from cvbook.convolution.fast import col2im, fast_length, im2col

IMAGE = torch.arange(1.0, 13.0).view(1, 1, 3, 4)
BY_HAND = [[1, 2, 3, 5, 6, 7], [2, 3, 4, 6, 7, 8], [5, 6, 7, 9, 10, 11], [6, 7, 8, 10, 11, 12]]


def assert_wrong(verdict: Any, words: str) -> None:
    assert verdict.state == "wrong"
    assert words in verdict.message


def test_columns_by_hand() -> None:
    assert checks.columns_by_hand(BY_HAND).passed
    assert checks.columns_by_hand(im2col(IMAGE, 2)[0]).passed
    assert checks.columns_by_hand(...).state == "not attempted"
    assert_wrong(checks.columns_by_hand([[0] * 6] * 4), "zero")
    assert_wrong(checks.columns_by_hand(torch.tensor(BY_HAND).T), "patches are rows")
    assert_wrong(checks.columns_by_hand([[row[i] for i in (0, 3, 1, 4, 2, 5)] for row in BY_HAND]), "slide down")
    assert_wrong(checks.columns_by_hand([BY_HAND[i] for i in (0, 2, 1, 3)]), "column by column")
    assert_wrong(checks.columns_by_hand([[1, 3], [2, 4], [5, 7], [6, 8]]), "stride is 1")


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    *,
    fold: Callable[..., Tensor] = col2im,
    reduce: Callable[[Tensor], Tensor] = lambda each: each.sum(0),
) -> tuple[Tensor, Tensor]:
    k, rows = tuple(weight.shape[2:]), grad.flatten(2)
    grad_x = fold(weight.flatten(1).T @ rows, tuple(x.shape[2:]), k)
    return grad_x, reduce((rows @ im2col(x, k).transpose(1, 2)).view(len(x), *weight.shape))


def averaging(columns: Tensor, size: tuple[int, int], k: tuple[int, int]) -> Tensor:
    return col2im(columns, size, k) / col2im(torch.ones_like(columns), size, k)


def overwriting(columns: Tensor, size: tuple[int, int], k: tuple[int, int]) -> Tensor:
    h, w = size[0] - k[0] + 1, size[1] - k[1] + 1
    patches = columns.unflatten(1, (-1, k[0] * k[1])).unflatten(3, (h, w))
    image = columns.new_zeros(*patches.shape[:2], *size)
    for i in range(k[0]):
        for j in range(k[1]):
            image[..., i : i + h, j : j + w] = patches[:, :, i * k[1] + j]
    return image


def test_im2col_backward() -> None:
    assert checks.im2col_backward(backward).passed

    def by_torch(grad: Tensor, x: Tensor, weight: Tensor) -> list[Tensor]:
        return [
            torch.nn.grad.conv2d_input(list(x.shape), weight, grad),
            torch.nn.grad.conv2d_weight(x, list(weight.shape), grad),
        ]

    assert checks.im2col_backward(by_torch).passed
    assert checks.im2col_backward(lambda grad, x, weight: ...).state == "not attempted"
    assert_wrong(checks.im2col_backward(lambda grad, x, weight: x), "expected a pair")
    zeros = checks.im2col_backward(lambda grad, x, weight: (0 * x, 0 * weight))
    assert_wrong(zeros, "everything is zero")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fold": averaging}, "adds and does not average"),
        ({"fold": overwriting}, "must be added"),
        ({"reduce": lambda each: each.mean(0)}, "averaged over the batch"),
        ({"reduce": lambda each: each}, "keeps a batch axis"),
        ({"reduce": lambda each: each[0]}, "first image only"),
        ({"reduce": lambda each: each.sum(0).flatten(1)}, "still a matrix"),
    ],
)
def test_im2col_backward_names_the_mistake(changes: dict[str, Any], words: str) -> None:
    assert_wrong(checks.im2col_backward(lambda *inputs: backward(*inputs, **changes)), words)


def test_im2col_backward_names_the_flip() -> None:
    def flipped(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return backward(grad, x, weight.flip(2, 3))

    assert_wrong(checks.im2col_backward(flipped), "flipped")


def test_im2col_backward_names_swapped_gradients_and_a_forgotten_col2im() -> None:
    assert_wrong(checks.im2col_backward(lambda *inputs: backward(*inputs)[::-1]), "swapped")
    assert_wrong(checks.im2col_backward(lambda *inputs: backward(*inputs, fold=lambda columns, *_: columns)), "col2im")


def test_winograd_multiplications() -> None:
    assert checks.winograd_multiplications(lambda h, w, i, o: 16 * math.ceil(h / 2) * math.ceil(w / 2) * i * o).passed
    assert checks.winograd_multiplications(
        lambda h, w, i, o: sum(16 for _ in range(0, h, 2) for _ in range(0, w, 2)) * i * o
    ).passed
    assert checks.winograd_multiplications(lambda h, w, i, o: None).state == "not attempted"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda h, w, i, o: 0, "zero"),
        (lambda h, w, i, o: 16 * (h // 2) * (w // 2) * i * o, "round up"),
        (lambda h, w, i, o: 4 * h * w * i * o, "round up"),
        (lambda h, w, i, o: 9 * h * w * i * o, "direct count"),
        (lambda h, w, i, o: 36 * -(-h // 2) * -(-w // 2) * i * o, "4 x 4 = 16"),
        (lambda h, w, i, o: 16 * h * w * i * o, "a tile for each output"),
        (lambda h, w, i, o: 16 * -(-h // 2) * -(-w // 2), "every pair"),
        (lambda h, w, i, o: 16 * -(-h // 2) * -(-w // 2) * o, "input channels are missing"),
        (lambda h, w, i, o: 16 * -(-h // 2) * -(-w // 2) * (i + o), "channels multiply"),
        (lambda h, w, i, o: 16 * -(-h // 4) * -(-w // 4) * i * o, "step by 2"),
    ],
)
def test_winograd_multiplications_names_the_mistake(function: Callable[..., float], words: str) -> None:
    assert_wrong(checks.winograd_multiplications(function), words)


def test_transform_lengths() -> None:
    assert checks.transform_lengths(lambda n, k: (n, n + k - 1)).passed
    assert checks.transform_lengths(lambda n, k: torch.tensor([n, len(range(-k + 1, n))])).passed
    assert checks.transform_lengths(lambda n, k: ...).state == "not attempted"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda n, k: (0, 0), "zero"),
        (lambda n, k: (n, n + k), "one sample too many"),
        (lambda n, k: (n, n), "adds the two ends"),
        (lambda n, k: (n, 2 ** math.ceil(math.log2(n + k - 1))), "a power of two"),
        (lambda n, k: [2 ** math.ceil(math.log2(m)) for m in (n, n + k - 1)], "powers of two"),
        (lambda n, k: (n, fast_length(n + k - 1)), "prime factors"),
        (lambda n, k: (n + k - 1, n + k - 1), "its length is enough"),
        (lambda n, k: (n - k + 1, n + k - 1), "the number of outputs"),
        (lambda n, k: (n + k - 1, n), "swapped"),
    ],
)
def test_transform_lengths_names_the_mistake(function: Callable[..., Any], words: str) -> None:
    assert_wrong(checks.transform_lengths(function), words)


def mask(height: int, width: int, k_h: int, k_w: int) -> Tensor:
    result = torch.zeros(height, width, dtype=torch.bool)
    result[height - k_h + 1 :] = True
    result[:, width - k_w + 1 :] = True
    return result


def from_the_end(height: int, width: int, k_h: int, k_w: int) -> Tensor:
    result = torch.zeros(height, width, dtype=torch.bool)
    result[-(k_h - 1) :] = True
    result[:, -(k_w - 1) :] = True
    return result


def test_wrapped() -> None:
    assert checks.wrapped(mask).passed
    assert checks.wrapped(lambda h, w, a, b: [[i + a > h or j + b > w for j in range(w)] for i in range(h)]).passed
    assert checks.wrapped(lambda h, w, a, b: None).state == "not attempted"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda h, w, a, b: torch.zeros(h, w), "zero"),
        (lambda h, w, a, b: [[i + a > h and j + b > w for j in range(w)] for i in range(h)], "only the corner"),
        (lambda h, w, a, b: mask(h, w, a, b).flip(0, 1), "first rows and columns"),
        (lambda h, w, a, b: [[i + a >= h or j + b >= w for j in range(w)] for i in range(h)], "too many"),
        (lambda h, w, a, b: ~mask(h, w, a, b), "good outputs"),
        (from_the_end, "m[0:]"),
        (lambda h, w, a, b: mask(h, w, b, a), "swapped"),
        (lambda h, w, a, b: mask(h, w, a, b).roll((-((a - 1) // 2), -((b - 1) // 2)), (0, 1)), "center the kernel"),
    ],
)
def test_wrapped_names_the_mistake(function: Callable[..., Any], words: str) -> None:
    assert_wrong(checks.wrapped(function), words)
