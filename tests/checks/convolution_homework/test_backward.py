"""Exercise 8 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks import convolution_homework as checks
from cvbook.checks.convolution_homework import backward as module


def total(columns: Tensor, size: tuple[int, int], k: int, stride: int) -> Tensor:
    """col2im by matrix: each entry goes to the pixel whose number `F.unfold` finds in its place."""
    numbers = torch.arange(size[0] * size[1]).view(1, 1, *size).double()
    index = F.unfold(numbers, k, stride=stride)[0].long().flatten()
    image = torch.zeros(len(columns) // k**2, size[0] * size[1])
    return image.index_add(1, index, columns.reshape(len(image), -1)).view(-1, *size)


def narrow(columns: Tensor, size: tuple[int, int], k: int, stride: int = 1, padding: int = 0) -> Tensor:
    """The instructor's loop, but the number of places in a row forgets the padding."""
    across = (size[1] - k) // stride + 1
    image = torch.zeros(len(columns) // k**2, size[0] + 2 * padding, size[1] + 2 * padding)
    for n, column in enumerate(columns.T):
        i, j = n // across * stride, n % across * stride
        image[:, i : i + k, j : j + k] += column.view(-1, k, k)
    return image[:, padding : padding + size[0], padding : padding + size[1]]


def fold(wrong: str) -> Callable[..., Tensor]:
    def answer(columns: Tensor, size: tuple[int, int], k: int, stride: int = 1, padding: int = 0) -> Tensor:
        channels = len(columns) // k**2
        if wrong == "order":
            columns = columns.view(k * k, channels, -1).transpose(0, 1).reshape(columns.shape)
        full = (size[0] + 2 * padding, size[1] + 2 * padding)
        summed = total(columns, full, k, stride)
        if wrong == "average":
            summed = summed / total(torch.ones_like(columns), full, k, stride).clamp(min=1)
        if wrong == "places":
            rows, across = ((length - k) // stride + 1 for length in full)
            order = columns.unflatten(1, (across, rows)).transpose(1, 2).flatten(1)
            summed = total(order, full, k, stride)
        if wrong in ("overwrite", "stride"):
            step, summed = 1 if wrong == "stride" else stride, torch.zeros_like(summed)
            across = (full[1] - k) // stride + 1
            for n in range(columns.shape[1]):
                i, j = n // across * step, n % across * step
                patch = columns[:, n].view(channels, k, k)
                summed[:, i : i + k, j : j + k] = patch + (wrong == "stride") * summed[:, i : i + k, j : j + k]
        if wrong == "keep":
            return summed
        start = 0 if wrong == "crop" else padding
        return summed[:, start : start + size[0], start : start + size[1]]

    return answer


def back(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def answer(grad: Tensor, weight: Tensor, size: Any, stride: int = 1, padding: int = 0) -> Tensor:
        matrix, full = change(weight).flatten(1), (size[0] + 2 * padding, size[1] + 2 * padding)
        image = total(matrix.T @ grad.flatten(1), full, 3, stride)
        return image[:, padding : padding + size[0], padding : padding + size[1]]

    return answer


def correlated_again(g: Tensor, w: Tensor, size: Any, stride: int = 1, padding: int = 0) -> Tensor:
    """The forward pass, of the gradient."""
    columns = F.unfold(g[None], 3, stride=stride, padding=padding)[0]
    return (w.flatten(1) @ columns).unflatten(1, (-1, (g.shape[2] + 2 * padding - 3) // stride + 1))


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("col2im_overlaps", fold("overwrite"), "overwrite each other"),
    ("col2im_overlaps", fold("average"), "are averaged"),
    ("col2im_overlaps", fold("order"), "wrong order"),
    ("col2im_overlaps", fold("places"), "counted column by column"),
    ("col2im_overlaps", lambda c, *rest: c @ c, "your code stopped with RuntimeError: mat1"),
    ("col2im_stride_padding", narrow, "W' = (W + 2 * padding - k) // stride + 1"),
    ("col2im_stride_padding", fold("keep"), "padding is still there"),
    ("col2im_stride_padding", fold("crop"), "bottom and right only"),
    ("col2im_stride_padding", fold("overwrite"), "overwrite each other"),
    ("col2im_stride_padding", fold("stride"), "stride is ignored"),
    ("input_gradient", back(lambda w: w.flip(2, 3)), "flipped once too often"),
    ("input_gradient", back(lambda w: w.transpose(0, 1)), "output and input channels are exchanged"),
    (
        "input_gradient",
        correlated_again,
        "convolves the gradient with the same kernels",
    ),
    ("input_gradient", lambda g, w, size, s=1, p=0: g @ w, "your code stopped with RuntimeError"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", module.__all__)
def test_every_check_knows_three_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 3
