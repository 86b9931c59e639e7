"""Each check accepts the solution and another right answer, and names the mistake in plausible wrong ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
import scipy.signal
import torch
from torch.nn import functional as F

from cvbook import filters
from cvbook.checks import filters as checks
from cvbook.data import photograph

Kernels = Callable[[torch.Tensor, torch.Tensor], Any]


def correlate(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x[None, None], k[None, None])[0, 0]


def loops(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    (H, W), (h, w) = image.shape, kernel.shape
    out = torch.zeros(H - h + 1, W - w + 1)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for u in range(h):
                for v in range(w):
                    out[i, j] += image[i + h - 1 - u, j + w - 1 - v] * kernel[u, v]
    return out


def looped(image: torch.Tensor, kernel: torch.Tensor, place: Callable[..., Any], add: bool = True) -> torch.Tensor:
    """The loops of a reader who took another pixel, or wrote ``=`` for ``+=``."""
    (H, W), (h, w) = image.shape, kernel.shape
    out = torch.zeros(H - h + 1, W - w + 1)
    for i, j, u, v in itertools.product(range(H - h + 1), range(W - w + 1), range(h), range(w)):
        product = image[place(i, j, u, v)] * kernel[u, v]
        out[i, j] = out[i, j] + product if add else product
    return out


@pytest.mark.parametrize(
    "answer", [loops, lambda x, k: scipy.signal.convolve2d(x.numpy(), k.numpy(), mode="valid")], ids=["loops", "scipy"]
)
def test_convolve2d_accepts(answer: Kernels) -> None:
    assert checks.convolve2d(answer).passed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (correlate, "cross-correlation"),
        (lambda x, k: correlate(x, k.flip(0)), "upside down only"),
        (lambda x, k: correlate(x, k.flip(1)), "left to right only"),
        (lambda x, k: correlate(x, k.T), "transposed"),
        (lambda x, k: scipy.signal.convolve2d(x.numpy(), k.numpy()), "padded"),
        (lambda x, k: scipy.signal.convolve2d(x.numpy(), k.numpy(), mode="same"), "expected shape"),
        (lambda x, k: torch.zeros(x.shape[0] - k.shape[0] + 1, x.shape[1] - k.shape[1] + 1), "everything is zero"),
        (lambda x, k: looped(x, k, lambda i, j, u, v: (i - u, j - v)), "counts from the end"),
        (lambda x, k: looped(x, k, lambda i, j, u, v: (i + u, j + v), add=False), "+= instead of =, and flip"),
        (
            lambda x, k: looped(x, k, lambda i, j, u, v: (i + k.shape[0] - 1 - u, j + k.shape[1] - 1 - v), add=False),
            "overwrites",
        ),
    ],
)
def test_convolve2d_rejects(answer: Kernels, says: str) -> None:
    verdict = checks.convolve2d(answer)
    assert verdict.state == "wrong"
    assert says in verdict.message


def test_parameters_accepts() -> None:
    assert checks.parameters(lambda c_in, k, c_out: c_in * k * k * c_out + c_out).passed
    assert checks.parameters(lambda c_in, k, c_out: sum(c_in * k**2 + 1 for _ in range(c_out))).passed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda c_in, k, c_out: c_in * k * k * c_out, "biases are missing"),
        (lambda c_in, k, c_out: k * k * c_out + c_out, "not one for all"),
        (lambda c_in, k, c_out: c_in * k * k * c_out + c_in, "not for each input channel"),
        (lambda c_in, k, c_out: (k * k + 1) * c_in * c_out, "not for each slice"),
        (lambda c_in, k, c_out: c_in * k * c_out + c_out, "k * k numbers"),
        (lambda c_in, k, c_out: c_in * k * k * c_out + 1, "not one for the layer"),
        (lambda c_in, k, c_out: c_in * k * k + 1, "one output channel"),
        (lambda c_in, k, c_out: 0, "everything is zero"),
    ],
)
def test_parameters_rejects(answer: Callable[[int, int, int], int], says: str) -> None:
    verdict = checks.parameters(answer)
    assert verdict.state == "wrong"
    assert says in verdict.message


def windowed(x: torch.Tensor, weight: torch.Tensor, o: int, i: int, j: int) -> torch.Tensor:
    return torch.stack([(x[c, i : i + 3, j : j + 2] * weight[o, c]).sum() for c in range(len(x))])


def depthwise(x: torch.Tensor, weight: torch.Tensor, o: int, i: int, j: int) -> torch.Tensor:
    return F.conv2d(x[None], weight[o][:, None], groups=len(x))[0, :, i, j]


@pytest.mark.parametrize("answer", [windowed, depthwise])
def test_contributions_accepts(answer: Callable[..., torch.Tensor]) -> None:
    assert checks.contributions(answer).passed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, w, o, i, j: torch.stack([(c[i : i + 3, j : j + 2] * w[o, 0]).sum() for c in x]), "the same slice"),
        (lambda x, w, o, i, j: windowed(x, w.transpose(0, 1), o, i, j), "axes of the kernel are swapped"),
        (lambda x, w, o, i, j: x[:, i : i + 3, j : j + 2] * w[o], "these are the products"),
        (lambda x, w, o, i, j: windowed(x, w, o, i, j).sum(), "the finished pixel"),
        (lambda x, w, o, i, j: windowed(x, w.flip(2, 3), o, i, j), "kernel is flipped"),
        (lambda x, w, o, i, j: torch.zeros(len(x)), "everything is zero"),
    ],
)
def test_contributions_rejects(answer: Callable[..., torch.Tensor], says: str) -> None:
    verdict = checks.contributions(answer)
    assert verdict.state == "wrong"
    assert says in verdict.message


def test_contributions_names_swapped_row_and_column() -> None:
    def answer(x: torch.Tensor, w: torch.Tensor, o: int, i: int, j: int) -> torch.Tensor:
        return torch.stack([(x[c, j : j + 3, i : i + 2] * w[o, c]).sum() for c in range(len(x))])

    assert "swapped" in checks.contributions(answer).message


RIGHT = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]


def as_kernel(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows)[:, :, None, None]


def test_append_sum_accepts() -> None:
    assert checks.append_sum(as_kernel(RIGHT)).passed
    layer = torch.nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        layer.weight.copy_(as_kernel(RIGHT))
    assert checks.append_sum(layer.weight).passed


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (torch.zeros(4, 3, 1, 1), "all weights are zero"),
        (as_kernel(RIGHT).transpose(0, 1), "axes are swapped"),
        (torch.tensor(RIGHT), "a 4-D tensor"),
        (as_kernel(RIGHT[3:]), "only the new channel"),
        (as_kernel(RIGHT[:2] + RIGHT[3:]), "overwritten"),
        (torch.ones(5, 3, 1, 1), "expected (4, 3, 1, 1)"),
        (as_kernel([*RIGHT[:3], [0.5, 0.5, 0]]), "the mean of R and G"),
        (as_kernel([*RIGHT[:3], [1, 1, 1]]), "all three colors"),
        (as_kernel([*RIGHT[:3], [0, 1, 1]]), "G + B"),
        (as_kernel([RIGHT[3], *RIGHT[:3]]), "comes first"),
    ],
)
def test_append_sum_rejects(weight: torch.Tensor, says: str) -> None:
    verdict = checks.append_sum(weight)
    assert verdict.state == "wrong"
    assert says in verdict.message


CURVE = {0.4: 7.2e-3, 0.6: 2.6e-3, 0.8: 1.65e-3, 1.0: 1.43e-3, 1.5: 1.7e-3, 2.0: 2.3e-3}


def test_best_sigma_accepts() -> None:
    assert checks.best_sigma(1.0, CURVE).passed
    assert checks.best_sigma(1.1, {**CURVE, 1.1: 1.41e-3}).passed


@pytest.mark.parametrize(
    ("answer", "curve", "says"),
    [
        (0.0, CURVE, "smaller error at another"),
        (0.4, CURVE, "the largest error"),
        (1.43e-3, CURVE, "the answer is the sigma"),
        (0.8, CURVE, "smaller error at another"),
        (0.8, {s: e for s, e in CURVE.items() if s < 0.9}, "at least 5"),
        (2.0, {s: 1 / s for s in CURVE}, "measure beyond"),
        (0.6, {s: abs(s - 0.6) for s in CURVE}, "does not give"),
        (1.5, {s: abs(s - 1.5) for s in CURVE}, "does not give"),
        ("1.0", CURVE, "expected one number"),
        (True, CURVE, "expected one number"),
    ],
)
def test_best_sigma_rejects(answer: Any, curve: dict[float, float], says: str) -> None:
    verdict = checks.best_sigma(answer, curve)
    assert verdict.state == "wrong"
    assert says in verdict.message


def test_an_honest_experiment_is_never_called_impossible() -> None:
    """The exercise itself, on coarse and fine grids of sigmas: only a gap or an end of the range may be in the way."""
    photo = photograph("cat", size=128, grey=True)[0]
    torch.manual_seed(0)
    noisy = F.pad((photo + 0.1 * torch.randn(photo.shape))[None, None], [8] * 4, mode="reflect")
    sigmas = [s / 20 for s in range(4, 61)]
    error = {s: F.mse_loss(correlate(noisy[0, 0], filters.gaussian(17, s)), photo).item() for s in sigmas}
    chosen, said = random.Random(0), set()
    grids = [chosen.sample(sigmas, count) for count in (5, 6, 8, 12) for _ in range(200)]
    for grid in [*grids, [0.3, 0.7, 1.5, 2, 3], [0.3, 0.6, 1.4, 2, 3], [0.25, 0.5, 0.75, 1.5, 2]]:
        curve = {s: error[s] for s in sorted(grid)}
        verdict = checks.best_sigma(min(curve, key=lambda s: curve[s]), curve)
        assert "does not give" not in verdict.message, curve
        said.add(verdict.message)
    assert "your best is 1.5, but you measured nothing between 0.7 and 1.5; add values there" in said


def shifted_copies(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(a.shape[0] + b.shape[0] - 1, a.shape[1] + b.shape[1] - 1)
    for u in range(b.shape[0]):
        for v in range(b.shape[1]):
            out[u : u + a.shape[0], v : v + a.shape[1]] += b[u, v] * a
    return out


@pytest.mark.parametrize(
    "answer", [shifted_copies, lambda a, b: scipy.signal.convolve2d(a.numpy(), b.numpy())], ids=["copies", "scipy"]
)
def test_compose_accepts(answer: Kernels) -> None:
    assert checks.compose(answer).passed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda a, b: scipy.signal.correlate2d(a.numpy(), b.numpy()), "cross-correlation of the kernels"),
        (lambda a, b: scipy.signal.correlate2d(b.numpy(), a.numpy()), "flip a"),
        (lambda a, b: shifted_copies(a, b).flip(0, 1), "turned by half a turn"),
        (lambda a, b: a * b, "place by place"),
        (lambda a, b: a + b, "kernels are added"),
        (lambda a, b: scipy.signal.convolve2d(a.numpy(), b.numpy(), mode="same"), "rim is missing"),
        (lambda a, b: 0 * shifted_copies(a, b), "everything is zero"),
    ],
)
def test_compose_rejects(answer: Kernels, says: str) -> None:
    verdict = checks.compose(answer)
    assert verdict.state == "wrong"
    assert says in verdict.message


@pytest.mark.parametrize(
    "check", [checks.convolve2d, checks.parameters, checks.contributions, checks.compose], ids=lambda c: c.__name__
)
def test_stubs_are_not_attempted(check: Callable[..., Any]) -> None:
    assert check(lambda *inputs: None).state == "not attempted"
    assert check(...).state == "not attempted"


def test_values_are_not_attempted_while_they_are_dots() -> None:
    assert checks.append_sum(...).state == "not attempted"
    assert checks.best_sigma(..., {}).state == "not attempted"
