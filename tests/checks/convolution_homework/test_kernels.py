"""Exercises 1, 3 and 4 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks import convolution_homework as checks
from cvbook.checks.convolution_homework import kernels as module


def correlated(image: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(image[None, None].float(), kernel[None, None])[0, 0]


def shape4(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)[:, :, None, None]


def pool(weight: Callable[[int, int], Tensor], stride: Any = None, groups: Any = None) -> Callable[..., dict[str, Any]]:
    def answer(channels: int, k: int) -> dict[str, Any]:
        return {"weight": weight(channels, k), "stride": stride or k, "groups": groups or channels}

    return answer


def kernels(channels: int, k: int) -> Tensor:
    return torch.full((channels, 1, k, k), 1 / k**2)


def wide(v: Tensor) -> Tensor:
    return v[:, None, None]


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("correlate2d", lambda x, w: correlated(x, w.flip(0, 1)), "true convolution: the kernel is flipped"),
    ("correlate2d", lambda x, w: correlated(x, w.flip(0)), "upside down"),
    ("correlate2d", lambda x, w: correlated(x, w.flip(1)), "mirrored"),
    ("correlate2d", lambda x, w: correlated(x, w)[:-1, :-1], "H - kh + 1"),
    ("correlate2d", lambda x, w: correlated(x, w).T, "height and width are exchanged"),
    ("correlate2d", lambda x, w: correlated(x, w) / w.numel(), "averaged"),
    ("correlate2d", lambda x, w: torch.zeros_like(x), "as large as the image"),
    ("correlate2d", lambda x, w: x @ w, "your code stopped with RuntimeError"),
    ("correlate2d_integers", lambda x, w: correlated(x, w).long(), "cut to whole numbers: make it with torch.zeros"),
    ("correlate2d_integers", lambda x, w: correlated(x, w).floor(), "cut to whole numbers"),
    ("correlate2d_integers", lambda x, w: correlated(x, w.long().float()), "kernel is cut to whole numbers"),
    (
        "correlate2d_integers",
        lambda x, w: F.conv2d(x[None, None], w[None, None]),
        "your code stopped with RuntimeError",
    ),
    ("correlate_channels", lambda x, w: F.conv2d(x[None], w.flip(2, 3))[0], "true convolution"),
    ("correlate_channels", lambda x, w: F.conv2d(x[None], w.transpose(0, 1))[0], "channels are exchanged"),
    ("correlate_channels", lambda x, w: F.conv2d(x.sum(0)[None, None], w[:, :1])[0], "same kernel is used"),
    ("correlate_channels", lambda x, w: F.conv2d(x[None], w)[0] / len(x), "averaged"),
    ("correlate_channels", lambda x, w: F.conv2d(x[None, :1], w[:, :1])[0], "only the first input channel"),
    (
        "correlate_channels",
        lambda x, w: torch.stack([correlated(x[o], w[o, o]) for o in range(len(w))]),
        "each output channel sees one input channel only",
    ),
    (
        "correlate_channels",
        lambda x, w: torch.stack([torch.stack([correlated(x[c], v[c]) for c in range(len(x))]) for v in w]),
        "kept apart",
    ),
    ("correlate_bias", lambda x, w, b: F.conv2d(x[None], w)[0], "bias is missing"),
    ("correlate_bias", lambda x, w, b: F.conv2d(x[None], w)[0] + len(x) * wide(b), "once for each input channel"),
    ("correlate_bias", lambda x, w, b: F.conv2d(x[None], w)[0] + w[0].numel() * wide(b), "once for each weight"),
    ("correlate_bias", lambda x, w, b: F.conv2d(x[None], w)[0] - wide(b), "subtracted"),
    ("correlate_bias", lambda x, w, b: F.conv2d(x[None], w)[0] + b[0], "same bias"),
    ("correlate_bias", lambda x, w, b: F.conv2d(x[None], w)[0] + b.sum(), "sum of all biases"),
    ("grey_kernel", lambda: torch.full((1, 3, 1, 1), 1 / 3), "mean of R, G and B"),
    ("grey_kernel", lambda: torch.ones(1, 3, 1, 1), "sum of R, G and B"),
    ("grey_kernel", lambda: shape4((0.114, 0.587, 0.299)), "order is B, G, R"),
    ("grey_kernel", lambda: shape4((0.299,), (0.587,), (0.114,)), "exchanged: expected (1, 3, 1, 1)"),
    ("grey_kernel", lambda: torch.tensor([0.299, 0.587, 0.114]), "expected the shape (1, 3, 1, 1)"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (1, 1, 0)), "overwrites a channel"),
    ("append_kernel", lambda: shape4((1.0, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 0)), "exchanged: expected (4, 3, 1, 1)"),
    ("append_kernel", lambda: shape4((1.0, 1, 0)), "sum alone"),
    ("append_kernel", lambda: shape4((1.0, 1, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)), "comes first"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0)), "mean (R + G)/2"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)), "R + B"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)), "R + G + B"),
    ("append_kernel", lambda: shape4((0.0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 0)), "first three channels are empty"),
    ("average_pool_weight", pool(lambda c, k: torch.full((c, c, k, k), 1 / k**2 / c)), "each sees its own"),
    ("average_pool_weight", pool(lambda c, k: kernels(c, k) * k), "weights are 1/k;"),
    ("average_pool_weight", pool(lambda c, k: kernels(c, k) * k * k), "weights are 1;"),
    ("average_pool_weight", pool(lambda c, k: kernels(c, k) / c), "number of channels"),
    ("average_pool_weight", lambda c, k: kernels(c, k), "expected a dict"),
    ("average_pool_weight", lambda c, k: {"weight": kernels(c, k)}, "got ['weight']"),
    ("average_pool_result", pool(kernels, stride=1), "the windows overlap"),
    ("average_pool_result", pool(kernels, groups=1), "groups must be the number of channels"),
    ("average_pool_result", pool(lambda c, k: torch.full((c, c, k, k), 1 / k**2 / c), groups=1), "channels are mixed"),
    ("average_pool_result", pool(lambda c, k: torch.full((c, c, k, k), 1 / k**2), groups=1), "added together"),
    ("average_pool_result", pool(lambda c, k: kernels(c, k) * k), "weights are 1/k;"),
    ("average_pool_result", pool(lambda c, k: kernels(c, k)[0]), "F.conv2d refuses weight"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", module.__all__)
def test_every_check_knows_three_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 3
