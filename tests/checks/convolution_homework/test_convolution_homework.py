"""The homework's checks accept right answers, however written, and name the mistake of wrong ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cvbook.checks import Wrong
from cvbook.checks import convolution_homework as checks
from cvbook.checks.convolution_homework.sizes import by_cases

ROOT = Path(__file__).resolve().parents[3]
SEEDS = (0, 1, 2)
NAMES = {check.__name__: name for check, name, _ in checks.PARTS}


@pytest.fixture(scope="module")
def solutions() -> dict[str, Any]:
    """The functions of the instructor notebook."""
    notebook = nbformat.read(ROOT / "book/homework/02_convolution/homework.ipynb", as_version=4)
    names: dict[str, Any] = {"torch": torch, "F": F}
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            exec(cell.source, names)
    return names


# Right answers, written in another way than the instructor's


def correlate2d(image: Any, kernel: Any) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(image.numpy(), tuple(kernel.shape))
    return np.einsum("ijab,ab->ij", windows, kernel.numpy())


def correlate(x: Any, weight: Any, bias: Any = None) -> Any:
    return F.conv2d(x[None], weight, bias)[0]


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    return F.conv1d(
        torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), stride=stride, padding=padding, dilation=dilation
    ).shape[2]


def grey_kernel() -> Any:
    return np.array([[[[0.299]], [[0.587]], [[0.114]]]])


def append_kernel() -> Any:
    weight = torch.cat([torch.eye(3), torch.zeros(1, 3)])
    weight[3, :2] = 1
    return weight.view(4, 3, 1, 1).double()


def average_pool_settings(channels: int, k: int) -> Any:
    return {"groups": channels, "stride": (k, k), "weight": torch.ones(channels, 1, k, k) / k / k}


def receptive_field(layers: Any) -> Any:
    """From the top down: how many positions of each map the unit sees."""
    size, jump = 1, 1
    for layer in reversed(layers):
        if isinstance(layer, list):
            fields = [receptive_field(branch) for branch in layer]
            size = max((size - 1) * step + field for field, step in fields)
            jump *= fields[-1][1]
        else:
            size = (size - 1) * layer[1] + layer[2] * (layer[0] - 1) + 1
            jump *= layer[1]
    return [size, jump]


def batch_norm(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):  # type: ignore[no-untyped-def]
    y = F.batch_norm(x, mean, var, gamma, beta, training, momentum, eps)  # moves mean and var in place
    return y, mean, var


def change_in_points(train: Any, augmentations: Any, seeds: Any) -> Any:
    changes = {name: [100 * (train(a, s) - train(None, s)) for s in seeds] for name, a in augmentations.items()}
    return {name: torch.tensor(values).mean() for name, values in changes.items()}


def look_alikes(change: Any, images: Any, labels: Any) -> Any:
    means = [images[labels == c].mean(0) for c in labels.unique()]
    found = []
    for c in labels.unique():
        mine = change(images)[labels == c].mean(0)
        found.append(min(range(len(means)), key=lambda other: float((means[other] - mine).norm())))
    return tuple(found)


def wrong_augmentation() -> Any:
    return ["Upside down ", 6.0]


def col2im(columns: Any, size: Any, k: int, stride: int = 1, padding: int = 0) -> Any:
    return F.fold(columns[None], size, k, stride=stride, padding=padding)[0]


def input_gradient(grad: Any, weight: Any, size: Any, stride: int = 1, padding: int = 0) -> Any:
    full = (1, weight.shape[1], *size)
    return torch.nn.grad.conv2d_input(full, weight, grad[None], stride=stride, padding=padding)[0]


def effective_std(n: int, kernel: int = 3, dilation: int = 1) -> Any:
    half = (kernel - 1) // 2
    one = sum((dilation * j) ** 2 for j in range(-half, half + 1)) / kernel
    return torch.tensor(math.sqrt(n * one))


def central_share(n: int) -> float:
    return 4 * math.sqrt(2 * n / 3) / (2 * n + 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", NAMES)
def test_the_instructors_solution_passes(solutions: dict[str, Any], check: str, seed: int) -> None:
    verdict = getattr(checks, check)(solutions[NAMES[check]], seed=seed)
    assert verdict.passed, verdict


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", NAMES)
def test_a_right_answer_in_another_form_passes(check: str, seed: int) -> None:
    answer = globals()[NAMES[check]]
    verdict = getattr(checks, check)(answer, seed=seed)
    assert verdict.passed, verdict


def stub(*arguments: Any, **settings: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize("check", NAMES)
@pytest.mark.parametrize("empty", [stub, None, ..., lambda *a, **k: None, lambda *a, **k: ...])
def test_the_stub_counts_as_not_attempted(check: str, empty: Any) -> None:
    assert getattr(checks, check)(empty).state == "not attempted"


@pytest.mark.parametrize("check", NAMES)
def test_zeros_are_wrong(solutions: dict[str, Any], check: str) -> None:
    right = solutions[NAMES[check]]

    def zero(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: zero(part) for key, part in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(zero(part) for part in value)
        return value if isinstance(value, str) else value * 0

    verdict = getattr(checks, check)(lambda *a, **k: zero(right(*a, **k)))
    assert verdict.state == "wrong"


def test_an_unknown_mistake_is_shown_by_an_example() -> None:
    verdict = checks.output_size(lambda n, k, s, p, d: 3)
    assert "expected" in verdict.message
    assert "got 3" in verdict.message
    with pytest.raises(Wrong, match=r"for \[1\], expected \(1, 2\), got \(1, 3\)"):
        by_cases(lambda x: (1, 3), lambda x: (1, 2), [([1],)], {}, str)


def test_the_summary_counts_what_is_passed_wrong_and_empty(solutions: dict[str, Any]) -> None:
    full = checks.summary(solutions).splitlines()
    assert len(full) == len(checks.PARTS) + 1
    assert full[0] == "✓ Exercise 1, correlate2d"
    assert full[-1] == "30 of 30 points (checks wrong: 0, still empty: 0)"
    mixed = {**solutions, "grey_kernel": lambda: torch.full((1, 3, 1, 1), 1 / 3), "correlate2d": stub}
    lines = checks.summary(mixed).splitlines()
    assert lines[0] == "… Exercise 1, correlate2d"
    assert any(line.startswith("✗ Exercise 3, grey: this is the mean") for line in lines)
    # correlate calls correlate2d, which is defined in the solutions' own namespace and still works there
    assert lines[-1] == "27 of 30 points (checks wrong: 1, still empty: 2)"
