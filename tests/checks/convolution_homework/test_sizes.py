"""Exercises 2, 5 and 9 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook.checks import convolution_homework as checks
from cvbook.checks.convolution_homework import sizes as module


def field(layers: Any, wrong: str) -> tuple[int, int]:
    size, jump = 1, 1
    for layer in layers:
        if isinstance(layer, list):
            sizes = [field(branch, wrong)[0] for branch in layer]
            join: dict[str, Any] = {
                "sum": lambda s=sizes: sum(s) - len(s) + 1, "first": lambda s=sizes: s[0],
                "min": lambda s=sizes: min(s), "last branch": lambda s=sizes: s[-1],
            }  # fmt: skip
            largest = join.get(wrong, lambda s=sizes: max(s))()
            size += (largest - (wrong != "no -1")) * (1 if wrong == "fork jump" else jump)
            jump = jump if wrong == "fork stride" else jump * field(layer[0], wrong)[1]
            continue
        kernel, stride, dilation = layer
        if wrong == "early":
            size += dilation * (kernel - 1) * jump * stride
        elif wrong == "no jump":
            size += dilation * (kernel - 1)
        elif wrong == "no dilation":
            size += (kernel - 1) * jump
        elif wrong == "d k":
            size += dilation * kernel * jump
        else:
            size += dilation * (kernel - 1) * jump
        jump = stride if wrong == "last" else 1 if wrong == "still" else jump * stride
    return size, jump


def size_by(formula: Callable[..., Any]) -> Callable[..., Any]:
    return lambda n, k, s=1, p=0, d=1: formula(n + 2 * p, d * (k - 1) + 1, s)


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    *(
        (check, answer, message)
        for check in ("output_size", "output_size_dilated")
        for answer, message in (
            (size_by(lambda n, span, s: (n - span) / s + 1), "floor is missing"),
            (size_by(lambda n, span, s: math.ceil((n - span) / s) + 1), "rounds up"),
            (size_by(lambda n, span, s: round((n - span) / s) + 1), "rounds to the nearest"),
            (size_by(lambda n, span, s: (n - span) // s), "+ 1 is missing"),
            (size_by(lambda n, span, s: (n - span + 1) // s + 1), "one too short"),
            (size_by(lambda n, span, s: n - span + 1), "stride is ignored"),
            (lambda n, k, s=1, p=0, d=1: (n - d * (k - 1) - 1) // s + 1, "padding is ignored"),
            (lambda n, k, s=1, p=0, d=1: (n + p - d * (k - 1) - 1) // s + 1, "padding is counted once"),
            (lambda n, k, s=1, p=0, d=1: str(n) + "px", "expected a number or a pair of numbers, got str"),
        )
    ),
    ("output_size_dilated", lambda n, k, s=1, p=0, d=1: (n + 2 * p - k) // s + 1, "dilation is ignored"),
    ("output_size_dilated", lambda n, k, s=1, p=0, d=1: (n + 2 * p - d * k) // s + 1, "not d times k"),
    *(
        (check, lambda layers, wrong=wrong: field(layers, wrong), message)
        for check in ("receptive_field", "receptive_field_dilated", "receptive_field_branches")
        for wrong, message in (
            ("early", "the jump is updated too early"),
            ("no jump", "the strides are ignored"),
            ("still", "the jump never grows"),
            ("last", "the jump is the last stride only"),
            ("d k", "not d times k"),
        )
    ),
    *(
        (check, lambda layers: field(layers, "no dilation"), "dilation is ignored")
        for check in ("receptive_field_dilated", "receptive_field_branches")
    ),
    ("receptive_field", lambda layers: field(layers, "")[0], "expected (7, 2), got 7"),
    ("receptive_field_branches", lambda layers: field(layers, "sum"), "the branches are added"),
    (
        "receptive_field_branches",
        lambda layers: (1 + sum(k - 1 for k, s, d in layers), 1),
        "which is a list of branches",
    ),
    ("receptive_field_branches", lambda layers: field(layers, "first"), "only the first branch"),
    ("receptive_field_branches", lambda layers: field(layers, "min"), "smallest branch"),
    ("receptive_field_branches", lambda layers: field(layers, "last branch"), "only the last branch"),
    ("receptive_field_branches", lambda layers: field(layers, "no -1"), "(r - 1) jumps, not r"),
    ("receptive_field_branches", lambda layers: field(layers, "fork jump"), "times the jump before it"),
    ("receptive_field_branches", lambda layers: field(layers, "fork stride"), "strides inside a fork are lost"),
    ("effective_std", lambda n: 2 * n / 3, "this is the variance"),
    ("effective_std", lambda n: n * math.sqrt(2 / 3), "variances do"),
    ("effective_std", lambda n: math.sqrt(n * 9 / 12), "continuous box"),
    ("effective_std", lambda n: math.sqrt(n), "divides by k - 1"),
    ("effective_std", lambda n: 2 * n + 1, "theoretical receptive field"),
    ("effective_std", lambda n: n, "radius"),
    ("effective_std_kernels", lambda n, k, d: d * math.sqrt(2 * n / 3), "kernel size is ignored"),
    ("effective_std_kernels", lambda n, k, d: math.sqrt(n * (k**2 - 1) / 12), "dilation is ignored"),
    ("effective_std_kernels", lambda n, k, d: math.sqrt(2 * n / 3), "kernel and dilation are ignored"),
    ("effective_std_kernels", lambda n, k, d: math.sqrt(d * n * (k**2 - 1) / 12), "d squared"),
    ("effective_std_kernels", lambda n, k, d: d**2 * math.sqrt(n * (k**2 - 1) / 12), "d to the fourth"),
    ("effective_std_kernels", lambda n, k, d: math.sqrt(n * ((d * (k - 1) + 1) ** 2 - 1) / 12), "has holes"),
    ("effective_std_kernels", lambda n, k, d: d * k * math.sqrt(n / 12), "continuous box"),
    ("central_share", lambda n: 2 * math.sqrt(2 * n / 3) / (2 * n + 1), "two standard deviations wide"),
    ("central_share", lambda n: math.sqrt(2 * n / 3) / (2 * n + 1), "one standard deviation"),
    ("central_share", lambda n: 4 * math.sqrt(2 * n / 3) / (2 * n), "not 2n"),
    ("central_share", lambda n: 4 * math.sqrt(2 * n / 3) / (3 * n), "not 3n"),
    ("central_share", lambda n: 16 * 2 * n / 3 / (2 * n + 1) ** 2, "share of the area"),
    ("central_share", lambda n: (2 * n + 1) / (4 * math.sqrt(2 * n / 3)), "upside down"),
    ("central_share", lambda n: 4 * 2 * n / 3 / (2 * n + 1), "four variances"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", [name for name in module.__all__ if name != "by_cases"])
def test_every_check_knows_three_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 3


def seen(layers: Any) -> tuple[int, int]:
    """Size and jump by gradient: which pixels reach a unit in the middle, and its neighbor, through weights of one."""

    def forward(x: Any, layers: Any, keep: bool) -> Any:
        for layer in layers:
            if isinstance(layer, list):
                x = sum(forward(x, branch, keep=True) for branch in layer)
                continue
            kernel, stride, dilation = layer
            padding = dilation * (kernel - 1) // 2 if keep else 0
            x = F.conv1d(x, torch.ones(1, 1, kernel).double(), stride=stride, padding=padding, dilation=dilation)
        return x

    x = torch.zeros(1, 1, 3000, dtype=torch.float64, requires_grad=True)
    y = forward(x, layers, keep=False)[0, 0]
    middle = len(y) // 2
    reach = [torch.autograd.grad(y[i], x, retain_graph=True)[0][0, 0].nonzero() for i in (middle, middle + 1)]
    return int(reach[0].max() - reach[0].min()) + 1, int(reach[1].min() - reach[0].min())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("check", ["receptive_field", "receptive_field_dilated", "receptive_field_branches"])
def test_receptive_fields_are_those_that_gradients_show(check: str, seed: int) -> None:
    verdict = getattr(checks, check)(seen, seed=seed)
    assert verdict.passed, verdict
