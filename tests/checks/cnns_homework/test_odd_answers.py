"""The homework's checks survive whatever an answer returns, and tell in a sentence what is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from cvbook.checks import cnns_homework as checks

NAMES = {check.__name__: name for check, name, _ in checks.PARTS}
MODULES = ("bottleneck", "convolutional")  # their answers are modules


@pytest.mark.parametrize("check", NAMES)
def test_the_stub_counts_as_not_attempted(check: str, empty: Any) -> None:
    assert getattr(checks, check)(empty).state == "not attempted"


class Changed(nn.Module):
    """A right module whose result is changed."""

    def __init__(self, right: nn.Module, change: Any) -> None:
        super().__init__()
        for name, part in right.named_children():
            self.add_module(name, part)
        self.right, self.change = [right], change  # in a list, so that the parts have the right names

    def forward(self, x: Any) -> Any:
        return self.change(self.right[0].train(self.training)(x))


def replaced(value: Any, number: float | complex) -> Any:
    """The answer with every number replaced, in the shape it has."""
    if isinstance(value, nn.Module):
        return Changed(value, lambda y: replaced(y, number))
    if isinstance(value, (tuple, list)):
        return type(value)(replaced(part, number) for part in value)
    return torch.full(torch.as_tensor(value).shape, number)


@pytest.mark.parametrize("number", [0.0, 7.5, math.nan, 1j, math.inf])
@pytest.mark.parametrize("check", [name for name in NAMES if name not in ("clearly_better", "verdict")])
def test_zeros_constants_nan_and_complex_numbers_get_a_clear_sentence(
    solutions: dict[str, Any], check: str, number: float
) -> None:
    right = solutions[NAMES[check]] if check != "widest_network" else lambda *a: 3
    verdict = getattr(checks, check)(lambda *a: replaced(right(*a), number))
    assert verdict.state == "wrong"
    assert "your code stopped" not in verdict.message, verdict


@pytest.mark.parametrize("check", NAMES)
def test_odd_shapes_and_types_get_a_clear_sentence(check: str, odd: Any) -> None:
    verdict = getattr(checks, check)(lambda *a: odd)
    assert verdict.state in ("wrong", "not attempted" if odd == [None] else "wrong")
    assert "your code stopped" not in verdict.message, verdict


@pytest.mark.parametrize("check", MODULES)
def test_a_module_that_returns_odd_things_gets_a_clear_sentence(
    solutions: dict[str, Any], check: str, odd: Any
) -> None:
    verdict = getattr(checks, check)(lambda *a: Changed(solutions[check](*a), lambda y: odd))
    assert verdict.state == "wrong"
    assert "your code stopped" not in verdict.message, verdict


@pytest.mark.parametrize("check", MODULES)
def test_a_module_that_returns_nothing_is_not_attempted(solutions: dict[str, Any], check: str) -> None:
    verdict = getattr(checks, check)(lambda *a: Changed(solutions[check](*a), lambda y: None))
    assert verdict.state == "not attempted"


@pytest.mark.parametrize(
    "check",
    ["parameters", "multiply_adds", "memory_training", "memory_inference", "fire", "padded_shortcut", "original",
     "preactivation", "as_kernels", "convolutional", "best_windows", "expected_top_k", "coverage", "clearly_better"],
)  # fmt: skip
def test_an_answer_that_changes_its_arguments_is_told_so(solutions: dict[str, Any], check: str) -> None:
    right = solutions[NAMES[check]]

    def in_place(*arguments: Any) -> Any:
        result = right(*arguments)
        first = arguments[0]
        if isinstance(first, (list, dict)):
            first.clear()
        else:
            first += 1
        return result

    assert "in place" in getattr(checks, check)(in_place).message


def test_modules_that_change_their_input_or_the_old_head_are_told_so(solutions: dict[str, Any]) -> None:
    class InPlace(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            for name, part in block.named_children():
                self.add_module(name, part)
            self.block = [block]

        def forward(self, x: Any) -> Any:
            result = self.block[0].train(self.training)(x)
            x.relu_()
            return result

    for name in MODULES:
        verdict = getattr(checks, name)(lambda *a, f=solutions[name]: InPlace(f(*a)))
        assert "in place" in verdict.message, verdict

    def empties(layers: Any, shape: Any) -> Any:
        net = solutions["convolutional"](layers, shape)
        layers[0].weight.data.zero_()
        return net

    assert "old head must still work" in checks.convolutional(empties).message
