"""Each check accepts right answers, written in two ways, and names what is wrong with the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cvbook.checks import neuron as check
from cvbook.data import CLASSES, fashion_mnist

FUNCTIONS = [check.neuron, check.collapse, check.parameters, check.softmax, check.softmax_slopes]


def rejects(verdict: Any, words: str) -> None:
    assert verdict.state == "wrong", verdict
    assert words in verdict.message


@pytest.mark.parametrize("function", FUNCTIONS)
def test_stubs_are_not_attempted_and_crashes_are_reported(function: Callable[..., Any]) -> None:
    assert function(lambda *a: None).state == "not attempted"
    assert function(lambda *a: ...).state == "not attempted"
    assert function(...).state == "not attempted"
    rejects(function(lambda *a: 1 / 0), "ZeroDivisionError")
    assert function(lambda *a: "many").state == "wrong"


def test_neuron_accepts() -> None:
    def by_loops(x: np.ndarray, w: np.ndarray, b: float) -> list[float]:
        return [max(sum(x_i * w_i for x_i, w_i in zip(row, w, strict=True)) + b, 0) for row in x]

    assert check.neuron(lambda x, w, b: np.maximum(x @ w + b, 0)).passed
    assert check.neuron(by_loops).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, w, b: np.maximum(x @ w, 0), "the bias is missing"),
        (lambda x, w, b: np.maximum(x @ w, 0) + b, "activation comes before the bias"),
        (lambda x, w, b: np.maximum((x * w).sum() + b, 0), "add up over the whole batch"),
        (lambda x, w, b: np.maximum((x * w).sum(0) + b, 0), "sum along the last axis"),
        (lambda x, w, b: x @ w + b, "the activation is missing"),
        (lambda x, w, b: np.maximum(x * w, 0).sum(1) + b, "acts on the sum"),
        (lambda x, w, b: np.maximum((x * w).mean(1) + b, 0), "the mean of the products"),
        (lambda x, w, b: np.maximum(x @ w - b, 0), "the bias is subtracted"),
        (lambda x, w, b: np.maximum(x @ w[::-1] + b, 0), "expected"),
        (lambda x, w, b: np.maximum(x @ w[:, None] + b, 0), "expected shape (5,)"),
        (lambda x, w, b: np.zeros(len(x)), "everything is zero"),
        (lambda x, w, b: 1 / (1 + np.exp(-(x @ w + b))), "sigmoid of the sum"),
        (lambda x, w, b: np.squeeze(np.maximum(x @ w + b, 0)), "expected shape (1,)"),
    ],
)
def test_neuron_names_the_mistake(answer: Callable[..., Any], words: str) -> None:
    rejects(check.neuron(answer), words)


def test_collapse_accepts() -> None:
    def by_probing(W1: Any, b1: Any, W2: Any, b2: Any) -> list[Any]:
        def both(x: Any) -> Any:
            return W2 @ (W1 @ x + b1) + b2

        b = both(torch.zeros(W1.shape[1]).double())
        return [torch.stack([both(e) - b for e in torch.eye(W1.shape[1]).double()], dim=1), b]

    assert check.collapse(lambda W1, b1, W2, b2: (W2 @ W1, W2 @ b1 + b2)).passed
    assert check.collapse(by_probing).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda W1, b1, W2, b2: (W1 @ W2, W2 @ b1 + b2), "the order is turned round"),
        (lambda W1, b1, W2, b2: (W1 + W2, W2 @ b1 + b2), "not a sum"),
        (lambda W1, b1, W2, b2: (W1 * W2, W2 @ b1 + b2), "number by number"),
        (lambda W1, b1, W2, b2: ((W2 @ W1).T, W2 @ b1 + b2), "transposed"),
        (lambda W1, b1, W2, b2: (W2 @ W1, b1 + b2), "goes through the second layer too"),
        (lambda W1, b1, W2, b2: (W2 @ W1, b2), "the first bias is missing"),
        (lambda W1, b1, W2, b2: (W2 @ W1, W2 @ b1), "the second bias is missing"),
        (lambda W1, b1, W2, b2: (W2 @ W1, W1 @ b2 + b1), "mixed up"),
        (lambda W1, b1, W2, b2: (0 * W1, 0 * b1), "everything is zero"),
        (lambda W1, b1, W2, b2: W2 @ W1, "expected a pair"),
    ],
)
def test_collapse_names_the_mistake(answer: Callable[..., Any], words: str) -> None:
    rejects(check.collapse(answer), words)


def test_parameters_accepts() -> None:
    def by_building(widths: list[int]) -> int:
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        return sum(p.numel() for layer in layers for p in layer.parameters())

    assert check.parameters(lambda w: sum((a + 1) * b for a, b in itertools.pairwise(w))).passed
    verdict = check.parameters(by_building)
    assert verdict.passed
    assert "101 770" in verdict.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda w: sum(a * b for a, b in itertools.pairwise(w)), "the biases are missing"),
        (lambda w: sum((a + 1) * b for a, b in itertools.pairwise(w[:-1])), "the output layer is forgotten"),
        (lambda w: sum((w[0] + 1) * b for b in w[1:]), "the input width is used again"),
        (lambda w: sum(a * b + 1 for a, b in itertools.pairwise(w)), "one bias for each layer"),
        (lambda w: sum((a + 1) * b for a, b in itertools.pairwise(w)) + w[0], "the inputs have no biases"),
        (lambda w: sum(a * (b + 1) for a, b in itertools.pairwise(w)), "for each output, not for each input"),
        (lambda w: sum(w[1:]), "these are the neurons"),
        (lambda w: 0, "for [7, 3], expected 24, got 0"),
    ],
)
def test_parameters_names_the_mistake(answer: Callable[..., Any], words: str) -> None:
    rejects(check.parameters(answer), words)


def shifted(z: torch.Tensor, top: torch.Tensor, dim: int) -> torch.Tensor:
    e = (z - top).exp()
    return e / e.sum(dim, keepdim=True)


def test_softmax_accepts() -> None:
    assert check.softmax(lambda z, dim: shifted(z, z.amax(dim, keepdim=True), dim)).passed
    assert check.softmax(lambda z, dim: (z - z.logsumexp(dim, keepdim=True)).exp()).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z, dim: shifted(z, torch.zeros(1), dim), "exp overflows"),
        (lambda z, dim: shifted(z, z.max(), dim), "each row needs its own largest score"),
        (lambda z, dim: shifted(z, z.amax(-1, keepdim=True), -1), "add up along the last axis always"),
        (lambda z, dim: shifted(z, z.amax(1 - dim % 2, keepdim=True), 1 - dim % 2), "along another axis"),
        (lambda z, dim: shifted(z, z.mean(dim, keepdim=True), dim), "not the mean"),
        (lambda z, dim: shifted(z, z.amin(dim, keepdim=True), dim), "not the mean or the smallest"),
        (lambda z, dim: shifted(z.clamp(-700, 700), torch.zeros(1), dim), "largest score"),
        (lambda z, dim: shifted(z.clamp(min=-1e5), z.amax(), dim), "its own largest score"),
        (lambda z, dim: z.exp() / z.exp().sum(), "the sum over everything"),
        (lambda z, dim: z.exp(), "not divided by their sum"),
        (lambda z, dim: z / z.sum(dim, keepdim=True), "the exponential is missing"),
        (lambda z, dim: torch.zeros_like(z), "everything is zero"),
    ],
)
def test_softmax_names_the_mistake(answer: Callable[..., Any], words: str) -> None:
    rejects(check.softmax(answer), words)


def test_softmax_wants_minus_infinity_to_work() -> None:
    def nan_at_minus_infinity(z: torch.Tensor, dim: int) -> torch.Tensor:
        d = z - z.amax(dim, keepdim=True)
        e = d.exp() + 0 * d
        return e / e.sum(dim, keepdim=True)

    rejects(check.softmax(nan_at_minus_infinity), "minus infinity")


def test_softmax_slopes_accepts() -> None:
    def by_loops(z: torch.Tensor, T: float) -> torch.Tensor:
        p = torch.softmax(z / T, 0)
        J = torch.empty(len(z), len(z))
        for i, j in itertools.product(range(len(z)), repeat=2):
            J[i, j] = p[i] * (float(i == j) - p[j]) / T
        return J

    def vectors(z: torch.Tensor, T: float) -> torch.Tensor:
        p = torch.softmax(z / T, 0)
        return (torch.diag(p) - torch.outer(p, p)) / T

    assert check.softmax_slopes(vectors).passed
    assert check.softmax_slopes(by_loops).passed


def _p(z: torch.Tensor, T: float = 1) -> torch.Tensor:
    return torch.softmax(z / T, 0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z, T: torch.diag(_p(z, T) * (1 - _p(z, T))) / T, "only the diagonal"),
        (lambda z, T: _p(z, T) * (1 - _p(z, T)) / T, "slopes of K sigmoids"),
        (lambda z, T: (torch.outer(_p(z, T), _p(z, T)) - torch.diag(_p(z, T))) / T, "the sign is turned"),
        (lambda z, T: (torch.outer(_p(z, T), _p(z, T)) + torch.diag(_p(z, T))) / T, "they are subtracted"),
        (lambda z, T: -torch.outer(_p(z, T), _p(z, T)) / T, "comes from the numerator"),
        (lambda z, T: torch.diag(_p(z, T)) - torch.outer(_p(z, T), _p(z, T)), "factor 1 / T"),
        (lambda z, T: (torch.diag(_p(z, T)) - torch.outer(_p(z, T), _p(z, T))) * T, "multiplied by T"),
        (lambda z, T: (torch.diag(_p(z)) - torch.outer(_p(z), _p(z))) / T, "without the temperature"),
        (lambda z, T: torch.diag(_p(z)) - torch.outer(_p(z), _p(z)), "the temperature is ignored"),
        (lambda z, T: torch.zeros(len(z), len(z)), "everything is zero"),
    ],
)
def test_softmax_slopes_names_the_mistake(answer: Callable[..., Any], words: str) -> None:
    rejects(check.softmax_slopes(answer), words)


RIGHT = {"hardest": ("pullover", "shirt"), "accuracy": 69.0, "better without": 13}


def test_pairs_accepts_what_the_lesson_measures() -> None:
    (images, labels), (seen, seen_labels) = fashion_mnist("test"), fashion_mnist("train")
    means = [seen[seen_labels == k].flatten(1).mean(0) for k in range(10)]
    found, better = {}, 0
    for a, b in itertools.combinations(range(10), 2):
        which = (labels == a) | (labels == b)
        w, bias = means[a] - means[b], (means[b] @ means[b] - means[a] @ means[a]) / 2
        z, truth = images[which].flatten(1) @ w, labels[which] == a
        found[CLASSES[a], CLASSES[b]] = 100 * ((z + bias > 0) == truth).float().mean().item()
        better += ((z > 0) == truth).sum().item() > ((z + bias > 0) == truth).sum().item()
    hardest = min(found, key=lambda pair: found[pair])
    mine = {"hardest": hardest, "accuracy": found[hardest], "better without": better}
    assert (mine["hardest"], mine["better without"]) == (RIGHT["hardest"], RIGHT["better without"])
    assert check.pairs(mine).passed
    assert check.pairs({**RIGHT, "hardest": ["shirt", "pullover"], "accuracy": torch.tensor(69)}).passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hardest": ("T-shirt/top", "shirt")}, "3 of the 45 pairs are harder"),
        ({"hardest": ("coat", "shirt")}, "1 of the 45 pairs are harder"),
        ({"hardest": ("trouser", "sneaker")}, "this is the easiest pair"),
        ({"hardest": ("shirt", "shirt")}, "two different garments"),
        ({"hardest": ("jeans", "shirt")}, "expected two names among"),
        ({"accuracy": 0.69}, "in percent"),
        ({"accuracy": 50.0}, "without the bias"),
        ({"accuracy": 67.25}, "training images"),
        ({"accuracy": 93.5}, "expected 69.0 %"),
        ({"better without": 31}, "the bias helps"),
        ({"better without": 0}, "expected 13 pairs"),
    ],
)
def test_pairs_names_the_mistake(change: dict[str, Any], words: str) -> None:
    rejects(check.pairs({**RIGHT, **change}), words)


def test_pairs_unattempted() -> None:
    assert check.pairs(dict.fromkeys(RIGHT)).state == "not attempted"
    assert check.pairs({**RIGHT, "accuracy": ...}).message == "still empty: accuracy"
    assert check.pairs({**RIGHT, "hardest": (None, None)}).message == "still empty: hardest"
    assert check.pairs({**dict.fromkeys(RIGHT), "hardest": (None, None)}).message.startswith("nothing to check yet")
    rejects(check.pairs({"hardest": ("coat", "shirt")}), "keys")


def test_collapse_compares_with_what_it_gave_not_with_what_came_back() -> None:
    def zeroed(W1: Any, b1: Any, W2: Any, b2: Any) -> Any:
        for part in (W1, b1, W2, b2):
            part.zero_()
        return W2 @ W1, W2 @ b1 + b2

    def in_place(W1: Any, b1: Any, W2: Any, b2: Any) -> Any:
        return W2 @ W1, b2.add_(W2 @ b1)

    rejects(check.collapse(zeroed), "everything is zero")
    assert check.collapse(in_place).passed


def test_parameters_accepts_numpys_numbers() -> None:
    assert check.parameters(lambda w: np.sum([(a + 1) * b for a, b in itertools.pairwise(w)])).passed
    rejects(check.parameters(lambda w: torch.ones(2)), "expected a number for [7, 3]")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": float("nan")}, "finite number for the accuracy"),
        ({"accuracy": "69"}, "expected a number for the accuracy"),
        ({"better without": float("nan")}, "finite number"),
        ({"better without": 13.4}, "in whole numbers, got 13.4"),
        ({"hardest": [["shirt"], ["pullover"]]}, "expected two names among"),
    ],
)
def test_pairs_wants_numbers(change: dict[str, Any], words: str) -> None:
    rejects(check.pairs({**RIGHT, **change}), words)
