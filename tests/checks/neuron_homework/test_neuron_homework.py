"""The homework's checks accept right answers, however written, and survive whatever an answer returns."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from cvbook.checks import neuron_homework as checks
from cvbook.neuron.autograd import Value

ROOT = Path(__file__).resolve().parents[3]
SEEDS = (0, 1, 2)
NAMES = {check.__name__: name for check, name, _ in checks.PARTS}


@pytest.fixture(scope="module")
def solutions() -> dict[str, Any]:
    """The functions of the instructor notebook."""
    notebook = nbformat.read(ROOT / "book/homework/01_neuron/homework.ipynb", as_version=4)
    names: dict[str, Any] = {"torch": torch, "F": F, "np": np, "math": math, "itertools": itertools, "Value": Value}
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            exec(cell.source, names)
    return names


# Right answers, written in another way than the instructor's


def layer(x: Any, W: Any, b: Any) -> Any:
    return [[max(0.0, sum(p * q for p, q in zip(row, w, strict=True)) + c) for w, c in zip(W, b, strict=True)] for row in x]  # fmt: skip  # noqa: E501


def network(x: Any, layers: Any) -> Any:
    for number, (W, b) in enumerate(layers):
        x = np.einsum("nd,kd->nk", x, W) + b
        x = np.where(x > 0, x, 0) if number + 1 < len(layers) else x
    return x


def masked_softmax(z: Any, mask: Any, dim: int) -> Any:
    largest = torch.where(mask, z, torch.full_like(z, -math.inf)).max(dim, keepdim=True).values
    e = torch.where(mask, z - largest, torch.zeros_like(z)).exp() * mask
    return (e / e.sum(dim, keepdim=True)).numpy()


def cross_entropy(z: Any, labels: Any) -> Any:
    total = 0.0
    for row, label in zip(z.double(), labels.tolist(), strict=True):
        gaps = row - row[label]
        m = gaps.max()
        total += float(m + (gaps - m).exp().sum().log())
    return total / len(z)


def cross_entropy_gradient(z: Any, labels: Any) -> Any:
    p = torch.softmax(z, 1)
    p[torch.arange(len(z)), labels] -= 1
    return p / len(z)


def squared_gradient(z: Any, labels: Any) -> Any:
    """Row by row, with the whole matrix of slopes."""
    rows = []
    for row, label in zip(z, labels, strict=True):
        p = torch.softmax(row, 0)
        d = p.clone()
        d[label] -= 1
        rows.append((torch.diag(p) - torch.outer(p, p)) @ d / len(z))
    return rows


def one_pass(W: Any, b: Any, x: Any, y: Any) -> Any:
    V, mistakes = torch.cat([W, b[:, None]], 1), 0
    for example, label in zip(torch.cat([x, torch.ones_like(x[:, :1])], 1), y, strict=True):
        scores = V @ example
        error = F.one_hot(label, len(V)) - F.one_hot(scores.argmax(), len(V))
        V = V + torch.outer(error.to(V.dtype), example)
        mistakes += error.abs().sum() // 2
    return [V[:, :-1], V[:, -1], mistakes]


def separates(one_pass: Any, W: Any, b: Any) -> Any:
    """Brent's algorithm keeps one earlier state and moves it on at each power of two."""
    kept, steps, limit = (W, b), 0, 1
    while True:
        W, b, mistakes = one_pass(W, b)
        if not mistakes:
            return np.bool_(True)
        if torch.equal(W, kept[0]) and torch.equal(b, kept[1]):
            return torch.tensor(False)
        steps += 1
        if steps == limit:
            kept, steps, limit = (W, b), 0, 2 * limit


def power(a: Any, b: Any) -> Any:
    value = math.exp(b.data * math.log(a.data))
    return Value(value, [(b, math.log(a.data) * value), (a, b.data * value / a.data)])  # type: ignore[arg-type]


def logsumexp(values: Any) -> Any:
    """Composed of the engine's own operations, after a shift by a plain number."""
    largest = max(v.data for v in values)
    return sum((v - largest).exp() for v in values).log() + largest


def sweep(tape: Any) -> Any:
    """From the front, by adding up paths: what each entry becomes if the last ones are eliminated in turn."""
    A = np.zeros((len(tape), len(tape)))
    for i, pairs in enumerate(tape):
        for j, slope in pairs:
            A[i, j] += slope
    row, total = np.eye(len(tape))[-1], np.zeros(len(tape))
    while row.any():
        total, row = total + row, row @ A
    return total


def prelu_backward(z: Any, a: Any, dy: Any) -> Any:
    """With the derivative written as a matrix for each input, and NumPy."""
    down = (z < 0).double().numpy()
    slopes = [np.diag(1 - off + off * a.numpy()) for off in down]
    return np.stack([J.T @ row for J, row in zip(slopes, dy.numpy(), strict=True)]), np.einsum(
        "nd,nd,nd->d", dy, z, down
    )


def swish_backward(z: Any, beta: float, dy: Any) -> Any:
    s = 1 / (1 + torch.exp(-beta * z))
    y = z * s
    return [dy * (beta * y + s * (1 - beta * y)), float(torch.einsum("nd,nd->", dy, y * (z - y)))]


def second_moment(phi: Any) -> Any:
    return phi(torch.randn(4_000_000)).square().mean()


def weight_std(phi: Any, fan_in: int, fan_out: int) -> Any:
    """By trial: what random weights of standard deviation 1 make of the sums."""
    a = phi(torch.randn(500, 4000, dtype=torch.float64))
    return np.float64(1 / math.sqrt(fan_in * float(a.square().mean())))


def uniform_bound(phi: Any, fan_in: int, fan_out: int) -> Any:
    return math.sqrt(3 / (fan_in * float(second_moment(phi))))


def moved(images: Any, down: int, right: int) -> Any:
    result, (H, W) = np.zeros(images.shape, dtype=np.float32), images.shape[2:]
    for i, j in itertools.product(range(H), range(W)):
        if 0 <= i - down < H and 0 <= j - right < W:
            result[:, :, i, j] = images[:, :, i - down, j - right]
    return result


def accuracy_map(predict: Any, images: Any, labels: Any, reach: int) -> Any:
    size = 2 * reach + 1
    result = np.zeros((size, size))
    for i, j in itertools.product(range(size), repeat=2):
        there = torch.as_tensor(moved(images, i - reach, j - reach))
        result[i, j] = 100 * np.mean(predict(there).numpy() == labels.numpy())
    return result


def sensitive() -> Any:
    return ["Trouser ", "LEFT"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", NAMES)
def test_the_instructors_solution_passes(solutions: dict[str, Any], check: str, seed: int) -> None:
    verdict = getattr(checks, check)(solutions[NAMES[check]], seed=seed)
    assert verdict.passed, verdict


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", NAMES)
def test_a_right_answer_in_another_form_passes(check: str, seed: int) -> None:
    verdict = getattr(checks, check)(globals()[NAMES[check]], seed=seed)
    assert verdict.passed, verdict


@pytest.mark.parametrize("check", NAMES)
def test_the_stub_counts_as_not_attempted(check: str, empty: Any) -> None:
    assert getattr(checks, check)(empty).state == "not attempted"


def replaced(value: Any, number: float | complex) -> Any:
    """The answer with every number replaced, in the shape it has."""
    if isinstance(value, (tuple, list)):
        return type(value)(replaced(part, number) for part in value)
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, Value):
        return Value(number) if not isinstance(number, complex) else number
    return torch.full(torch.as_tensor(value).shape, number)


@pytest.mark.parametrize("number", [0.0, 7.0, math.nan, 1j, math.inf])
@pytest.mark.parametrize("check", [name for name in NAMES if name not in ("separates", "sensitive")])
def test_zeros_constants_nan_and_complex_numbers_get_a_clear_sentence(
    solutions: dict[str, Any], check: str, number: float
) -> None:
    right = solutions[NAMES[check]]
    verdict = getattr(checks, check)(lambda *a: replaced(right(*a), number))
    assert verdict.state == "wrong"
    assert "your code stopped" not in verdict.message, verdict


@pytest.mark.parametrize("check", NAMES)
def test_odd_shapes_and_types_get_a_clear_sentence(check: str, odd: Any) -> None:
    verdict = getattr(checks, check)(lambda *a: odd)
    assert verdict.state == "wrong"
    assert "your code stopped" not in verdict.message, verdict


@pytest.mark.parametrize(
    "check",
    [n for n in NAMES if n not in ("separates", "sensitive", "power", "second_moment", "weight_std",
                                   "uniform_bound", "accuracy_map")],
)  # fmt: skip
def test_an_answer_that_changes_its_arguments_is_told_so(solutions: dict[str, Any], check: str) -> None:
    right = solutions[NAMES[check]]

    def in_place(*arguments: Any) -> Any:
        result = right(*arguments)
        first = arguments[0]
        if isinstance(first, list):
            first.clear()
        else:
            first += 1
        return result

    verdict = getattr(checks, check)(in_place)
    assert "in place" in verdict.message or "changes the list" in verdict.message


def test_the_summary_counts_what_is_passed_wrong_and_empty(solutions: dict[str, Any], stub: Any) -> None:
    full = checks.summary(solutions).splitlines()
    assert len(full) == len(checks.PARTS) + 1
    assert full[0] == "✓ Exercise 1, a layer (1 point)"
    assert full[-1] == "30 of 30 points (checks wrong: 0, still empty: 0)"
    mixed = {**solutions, "sweep": lambda tape: [0.0] * len(tape), "network": stub}
    lines = checks.summary(mixed).splitlines()
    assert lines[1] == "… Exercise 1, a network (2 points)"
    assert any(line.startswith("✗ Exercise 4, the sweep (1 point): everything is zero") for line in lines)
    assert lines[-1] == "27 of 30 points (checks wrong: 1, still empty: 1)"


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        ("masked_softmax", lambda z, mask, dim: torch.softmax(z.masked_fill(~mask, -math.inf), dim)),
        ("masked_softmax_far", lambda z, mask, dim: F.log_softmax(z.masked_fill(~mask, -math.inf), dim).exp()),
        ("cross_entropy", F.cross_entropy),
        ("cross_entropy", lambda z, y: (torch.logsumexp(z, 1) - z[torch.arange(len(z)), y]).mean()),
    ],
)
def test_what_the_exercise_forbids_is_refused_by_whatever_name(check: str, answer: Any) -> None:
    verdict = getattr(checks, check)(lambda *a: answer(*a))
    assert verdict.state == "wrong"
    assert "you build it yourself" in verdict.message


def loss(z: Any, y: Any) -> Any:
    return F.cross_entropy(z, y)


def by_backward(z: Any, y: Any) -> Any:
    z = z.clone()
    z.requires_grad = True
    loss(z, y).backward()
    return z.grad


def by_parameter(z: Any, y: Any) -> Any:
    z = torch.nn.Parameter(z.clone())
    return torch.autograd.grad(loss(z, y), z)[0]


def by_dual_numbers(z: Any, y: Any) -> Any:
    with forward_ad.dual_level():
        steps = torch.eye(z.numel(), dtype=z.dtype).view(-1, *z.shape)
        duals = [forward_ad.unpack_dual(loss(forward_ad.make_dual(z, step), y)).tangent for step in steps]
    return torch.stack(duals).view_as(z)


@pytest.mark.parametrize(
    "answer",
    [
        by_backward, by_parameter, by_dual_numbers, torch.func.grad(loss), torch.func.jacrev(loss),
        torch.func.jacfwd(loss), lambda z, y: torch.autograd.functional.jacobian(lambda t: loss(t, y), z),
    ],
)  # fmt: skip
def test_autograd_is_refused_by_whatever_name(answer: Any) -> None:
    z, y = torch.randn(3, 4), torch.tensor([0, 2, 1])
    torch.testing.assert_close(answer(z, y), by_backward(z, y))
    assert "this calls autograd" in checks.cross_entropy_gradient(answer).message


def test_every_derivative_of_the_homework_refuses_autograd() -> None:
    def half_square(z: Any, y: Any) -> Any:
        return 0.5 * (torch.softmax(z, 1) - F.one_hot(y, z.shape[1])).square().sum(1).mean()

    def prelu(z: Any, a: Any, dy: Any) -> Any:
        return torch.func.vjp(F.prelu, z, a)[1](dy)

    def swish(z: Any, beta: float, dy: Any) -> Any:
        b = torch.tensor(beta, dtype=z.dtype)
        return torch.func.vjp(lambda z, b: z * torch.sigmoid(b * z), z, b)[1](dy)

    for check, answer in (
        (checks.squared_gradient, torch.func.grad(half_square)),
        (checks.prelu_input, prelu),
        (checks.prelu_slope, prelu),
        (checks.swish, swish),
    ):
        assert "this calls autograd" in check(answer).message
