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
    columns = F.unfold(x[None], tuple(weight.shape[2:]))[0]
    result = (weight.flatten(1) @ columns).unflatten(1, (-1, x.shape[2] - weight.shape[3] + 1))
    return result if bias is None else result + bias[:, None, None]


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
    rows = x.transpose(0, 1).flatten(1).double()  # (C, n)
    center, spread = (rows.mean(1), rows.var(1, correction=0)) if training else (mean, var)
    y = ((rows.T - center) / torch.sqrt(spread + eps) * gamma + beta).T
    y = y.unflatten(1, (len(x), *x.shape[2:])).transpose(0, 1)
    if training:
        mean = torch.lerp(mean.double(), rows.mean(1), momentum)
        var = torch.lerp(var.double(), rows.var(1), momentum)
    return [y, mean, var]


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
    return ["Flip ", 1.0]


def col2im(columns: Any, size: Any, k: int, stride: int = 1, padding: int = 0) -> Any:
    """Number the pixels, unfold the numbers, and add each entry to the pixel it came from."""
    height, width = size[0] + 2 * padding, size[1] + 2 * padding
    numbers = torch.arange(height * width).view(1, 1, height, width).double()
    index = F.unfold(numbers, k, stride=stride)[0].long().flatten()
    image = torch.zeros(len(columns) // k**2, height * width)
    image.index_add_(1, index, columns.view(len(image), -1))
    return image.view(-1, height, width)[:, padding : padding + size[0], padding : padding + size[1]]


def input_gradient(grad: Any, weight: Any, size: Any, stride: int = 1, padding: int = 0) -> Any:
    """Each output is a plain sum of products, written as one product with an image: autograd does the rest."""
    x = torch.zeros(1, weight.shape[1], size[0] + 2 * padding, size[1] + 2 * padding, requires_grad=True)
    k, total = weight.shape[-1], torch.zeros(())
    for i in range(grad.shape[1]):
        for j in range(grad.shape[2]):
            window = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            total = total + (grad[:, i, j] * (window * weight).sum((1, 2, 3))).sum()
    (gradient,) = torch.autograd.grad(total, x)
    return gradient[0, :, padding : padding + size[0], padding : padding + size[1]]


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


@pytest.mark.parametrize("check", NAMES)
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


def test_the_summary_counts_what_is_passed_wrong_and_empty(solutions: dict[str, Any], stub: Any) -> None:
    full = checks.summary(solutions).splitlines()
    assert len(full) == len(checks.PARTS) + 1
    assert full[0] == "✓ Exercise 1, correlate2d (1 point)"
    assert full[2] == "✓ Exercise 1, many channels (2 points)"
    assert full[-1] == "30 of 30 points (checks wrong: 0, still empty: 0)"
    mixed = {**solutions, "grey_kernel": lambda: torch.full((1, 3, 1, 1), 1 / 3), "correlate2d": stub}
    lines = checks.summary(mixed).splitlines()
    assert lines[0] == "… Exercise 1, correlate2d (1 point)"
    assert any(line.startswith("✗ Exercise 3, grey (1 point): this is the mean") for line in lines)
    # correlate calls correlate2d, which is defined in the solutions' own namespace and still works there
    assert lines[-1] == "27 of 30 points (checks wrong: 1, still empty: 2)"


def gradient_of_unfold(columns: Any, size: Any, k: int, stride: int = 1, padding: int = 0) -> Any:
    image = torch.zeros(1, len(columns) // k**2, *size, requires_grad=True)
    patches = F.unfold(image, k, stride=stride, padding=padding)
    return torch.autograd.grad(patches, image, columns[None])[0][0]


@pytest.mark.parametrize(
    ("check", "answer", "name"),
    [
        ("correlate2d", lambda x, w: F.conv2d(x[None, None], w[None, None])[0, 0], "F.conv2d"),
        ("correlate2d_integers", lambda x, w: torch.conv2d(x[None, None].float(), w[None, None])[0, 0], "F.conv2d"),
        ("correlate_channels", lambda x, w: F.conv2d(x[None], w)[0], "F.conv2d"),
        ("correlate_channels", lambda x, w: F.conv_transpose2d(x, w.flip(2, 3)), "F.conv2d"),
        ("correlate_bias", lambda x, w, b: torch.conv2d(x[None], w, b)[0], "F.conv2d"),
        ("correlate_channels", lambda x, w: torch.nn.Conv2d(len(x), len(w), 3)(x), "F.conv2d"),
        (
            "batch_norm_output",
            lambda x, g, b, m, v, t, mo, e: (F.batch_norm(x, m, v, g, b, t, mo, e), m, v),
            "batch_norm",
        ),
        ("batch_norm_eval", lambda x, g, b, m, v, t, mo, e: (torch.nn.BatchNorm2d(3)(x), m, v), "batch_norm"),
        ("col2im_overlaps", lambda c, size, k, s, p: F.fold(c[None], size, k, stride=s, padding=p)[0], "F.fold"),
        ("col2im_overlaps", lambda c, size, k, s, p: torch.nn.Fold(size, k, stride=s, padding=p)(c), "F.fold"),
        ("col2im_stride_padding", gradient_of_unfold, "F.fold"),
        (
            "input_gradient",
            lambda g, w, size, s, p: F.conv_transpose2d(g, w, stride=s, padding=p),
            "F.conv2d",
        ),
    ],
)
def test_what_the_exercise_forbids_is_refused_by_whatever_name(check: str, answer: Any, name: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert "you build it yourself" in verdict.message
    assert name in verdict.message


def test_what_is_forbidden_inside_an_answer_works_again_behind_it() -> None:
    assert not checks.correlate_channels(lambda x, w: F.conv2d(x[None], w)[0]).passed
    assert F.conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item() == 4
