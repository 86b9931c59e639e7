"""Checks of the exercises in the lesson *Perceptron, XOR and the multilayer perceptron*."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["averaged", "hinges", "or_bound", "rule", "three_pixels", "xor_by_hand"]

Mistakes = dict[str, Callable[[], object]]
CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
TABLES = {"AND": (0, 0, 0, 1), "OR": (0, 1, 1, 1), "XOR": (0, 1, 1, 0)}


@exercise("The perceptron rule")
def rule(answer: Callable[..., object]) -> str:
    """``answer(x, y, passes)``: weights ``(D,)`` and bias after so many passes, from zeros, one example at a time."""
    cases = [
        (name, CORNERS, torch.tensor(TABLES[name]), passes) for name, passes in (("AND", 2), ("OR", 3), ("XOR", 7))
    ]
    cases.append(("random labels", torch.randint(-3, 4, (12, 3)).double(), torch.randint(0, 2, (12,)), 3))
    got = [_pair(answer(x.float(), y.clone(), passes), x.shape[1]) for _, x, y, passes in cases]
    known = [_rule_mistakes(x, y, passes) for _, x, y, passes in cases]
    expected = [_perceptron(x, y, passes) for _, x, y, passes in cases]
    everything = torch.cat(got)
    if not torch.allclose(everything, torch.cat(expected)):
        for sentence in known[0]:  # on AND alone several mistakes look alike
            if torch.allclose(everything, torch.cat([torch.as_tensor(k[sentence]()) for k in known])):
                raise Wrong(sentence)
    for (name, _, _, passes), result, right in zip(cases, got, expected, strict=True):
        equal(result, right, what=f"{name}, {passes} passes (weights, then bias)")
    return "right, and on XOR it goes round and round"


@exercise("The bound for OR")
def or_bound(answer: Callable[[float], float]) -> str:
    """``answer(c)``: the smallest (R / gamma)**2 for OR of two pixels that are 0 or c."""
    scales = (1.0, 2.0, 0.5, 3.7)
    results = [answer(c) for c in scales]
    if any(result is None or result is ... for result in results):
        raise NotImplementedError
    mistakes: dict[str, Callable[[float], float]] = {
        "R leaves out the constant input of the bias: the longest example is (c, c, 1)": lambda c: 2 * (8 + c * c),
        "gamma is not squared": lambda c: (2 * c * c + 1) * math.sqrt(8 + c * c) / c,
        "gamma is the smallest score; divide it by the length of (w, b) to get a distance": lambda c: 2 * c * c + 1,
        "gamma is the distance in the plane of the pixels; with the bias as a weight, divide by the length of (w, b)": (
            lambda c: (2 * c * c + 1) * 8 / (c * c)
        ),
        "the constant input of the bias is left out altogether": lambda c: 16.0,
        "this is R / gamma; the bound is its square": lambda c: math.sqrt((2 * c * c + 1) * (8 + c * c)) / c,
        "this is the bound of AND": lambda c: (2 * c * c + 1) * (9 + 8 / (c * c)),
    }
    expected = torch.tensor([_best_bound(c) for c in scales])
    known = {text: _each(compute, scales) for text, compute in mistakes.items()}
    equal(results, expected, what="pixels 0 or c with c = 1, 2, 0.5, 3.7", mistakes=known)
    return "right: smallest for c = sqrt(2), where it is 25"


@exercise("XOR by hand")
def xor_by_hand(weights: object, biases: object, output: object, bias: object) -> str:
    """``step(output . step(weights @ x + biases) + bias)`` is XOR; row j of ``weights`` belongs to hidden unit j."""
    W = _numbers(weights, (2, 2), "the hidden weights as two rows of two numbers")
    b, v = _numbers(biases, (2,), "two hidden biases"), _numbers(output, (2,), "two output weights")
    c = _numbers(bias, (), "one output bias")

    def network(W: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        hidden = (CORNERS @ W.T + b >= 0).double()
        return hidden, tuple((hidden @ v + c >= 0).int().tolist())

    hidden, table = network(W)
    if table == TABLES["XOR"]:
        return "right: two lines cut out the stripe between them"
    if network(W.T)[1] == TABLES["XOR"]:
        raise Wrong("transposed, your hidden weights would do it: row j of W belongs to hidden unit j")
    shown = f"for the inputs 00, 01, 10, 11 it answers {' '.join(map(str, table))}"
    names = {TABLES["OR"]: "OR", TABLES["AND"]: "AND", (1, 0, 0, 1): "the opposite of XOR; flip the signs of v and c"}
    if len(set(table)) == 1:
        what = "whatever the input is; look at the bias of the output"
    elif (hidden[:, 0] == hidden[:, 1]).all():
        what = "and both hidden units answer alike everywhere, so there is only one line"
    elif table in names:
        what = f"which is {names[table]}"
    else:
        unit = next((j for j in (0, 1) if len(set(hidden[:, j].tolist())) == 1), None)
        what = "0 1 1 0 is wanted" if unit is None else f"and hidden unit {unit} is the same for all inputs: no line"
    raise Wrong(f"{shown}, {what}")


@exercise("Three pixels")
def three_pixels(answer: float) -> str:
    """``answer``: how many of the 256 functions of three black-or-white pixels one neuron can compute."""
    inputs = np.array(list(itertools.product((0, 1), repeat=3)))
    neurons = itertools.product((-2, -1, 0, 1, 2), repeat=3)
    tables = {tuple(inputs @ np.array(w) >= b) for w in neurons for b in np.arange(-6.5, 7)}
    expected = len(tables)  # all of them: weights up to 2 are enough for three inputs
    mistakes: Mistakes = {
        "that many are NOT separable": lambda: 256 - expected,
        "that is the number for two pixels": lambda: 14,
        "that is how many functions there are; count those a line, here a plane, separates": lambda: 256,
        "the two constant functions are missing; the neuron can ignore its inputs": lambda: expected - 2,
        "that is 14 in 16, scaled up; the share falls with the number of pixels": lambda: 224,
        "that is 14 times 14: three pixels are not two independent pairs": lambda: 196,
    }
    equal(answer, torch.tensor(float(expected)), what="three pixels", mistakes=mistakes)
    return "right: 14 of 16 for two pixels, but fewer than half for three"


@exercise("A curve from hinges")
def hinges(answer: Callable[..., object]) -> str:
    """``answer(knots, values)``: factors ``(n,)`` and bias; ``bias + sum of factor * relu(x - knot)`` joins the dots.

    There are n + 1 knots, increasing; the last one needs no hinge.
    """
    for n in (1, 2, 5, 9):
        knots = torch.rand(n + 1, dtype=torch.float64).add(0.2).cumsum(0)
        values = torch.randn(n + 1, dtype=torch.float64)
        x = torch.linspace(float(knots[0]), float(knots[-1]), 57, dtype=torch.float64)
        expected = torch.tensor(np.interp(x.numpy(), knots.numpy(), values.numpy()))
        result = _pair(answer(knots.clone(), values.clone()), n)
        what, mistakes = f"the curve through {n + 1} random knots", _hinge_mistakes(x, knots, values)
        equal(_broken_line(x, knots, result[:-1], result[-1]), expected, what=what, mistakes=mistakes)
    return "right: any broken line with n pieces is n hinges"


@exercise("The averaged perceptron")
def averaged(answer: Callable[..., object]) -> str:
    """``answer(x, y, passes)``: the mean of weights and bias over all steps, that is, after each example shown."""
    for passes in (3, 1):
        x, y = torch.randn(15, 4), torch.randint(0, 2, (15,))
        trail, corrected = _trail(x.double(), y, passes)
        result = _pair(answer(x.clone(), y.clone(), passes), 4)
        if not result.any():
            raise Wrong("everything is zero; the result is never written")
        what = f"random examples, {passes} passes (weights, then bias, scaled to length 1)"
        mistakes = _average_mistakes(trail, corrected, len(x))
        equal(_direction(result), _direction(trail.mean(0)), what=what, mistakes=mistakes)
    if not torch.allclose(result, trail.mean(0), rtol=1e-4, atol=1e-5):
        return "right up to a factor (are these the sums?): the mean is shorter and gives all examples the same answers"
    return "right; now compare it with the last weights on images"


def _rule_mistakes(x: Tensor, y: Tensor, passes: int) -> Mistakes:
    return {
        "this also changes the weights when the answer is right; correct mistakes only": (
            lambda: _perceptron(x, y, passes, always=True)
        ),
        "the sign is flipped: add an example that should get 1, subtract one that should get 0": (
            lambda: _perceptron(x, y, passes, direction=-1)
        ),
        "the sign of the weights' correction is flipped, that of the bias is right": (
            lambda: _perceptron(x, y, passes, weights=-1)
        ),
        "the bias never changes; it is the weight of a constant input 1, so correct it too": (
            lambda: _perceptron(x, y, passes, bias=0)
        ),
        "this collects the mistakes of a whole pass before it corrects; correct after each example": (
            lambda: _in_batches(x, y, passes)
        ),
        "on the line itself, z = 0, the neuron answers 1 here; compare with >=, not with >": (
            lambda: _perceptron(x, y, passes, tie=False)
        ),
        "everything is zero: is the result returned, and is anything subtracted where 0 was expected?": (
            lambda: _perceptron(x, y, passes, down=0)  # at zero the neuron answers 1, so all first mistakes subtract
        ),
        "this is one pass; go through the examples `passes` times": lambda: _perceptron(x, y, 1),
    }


def _hinge_mistakes(x: Tensor, knots: Tensor, values: Tensor) -> Mistakes:
    slopes, rises, start = values.diff() / knots.diff(), values.diff(), values[0]
    changes = torch.cat([slopes[:1], slopes.diff()])
    flat_start = torch.cat([slopes.new_zeros(1), slopes.diff()])
    return {
        "these are the slopes themselves; a hinge adds to the slope so far, so it needs the change of slope": (
            lambda: _broken_line(x, knots, slopes, start)
        ),
        "the distance between the knots is left out: a slope is rise divided by run": (
            lambda: _broken_line(x, knots, torch.cat([rises[:1], rises.diff()]), start)
        ),
        "the curve starts flat: the first hinge has to make the whole first slope": (
            lambda: _broken_line(x, knots, flat_start, start)
        ),
        "the bias is missing: at the first knot every hinge is 0, so the bias is the first value": (
            lambda: _broken_line(x, knots, changes, 0 * start)
        ),
        "the hinges bend the wrong way": lambda: _broken_line(x, knots, -changes, start),
    }


def _average_mistakes(trail: Tensor, corrected: Tensor, size: int) -> Mistakes:
    frozen = torch.cat([trail.mean(0)[:-1], trail[-1, -1:]])
    return {
        "these are the last weights; return their mean over all steps": lambda: _direction(trail[-1]),
        "this is the mean over the corrections; weights that stay right for long must count for long": (
            lambda: _direction(trail[corrected].mean(0))
        ),
        "the weights are averaged, the bias is not": lambda: _direction(frozen),
        "this takes the weights before each example is shown; take them after its correction": (
            lambda: _direction(torch.cat([0 * trail[:1], trail[:-1]]).mean(0))
        ),
        "this is the mean over the ends of the passes; average over every example": (
            lambda: _direction(trail[size - 1 :: size].mean(0))
        ),
    }


def _each(compute: Callable[[float], float], scales: Sequence[float]) -> Callable[[], object]:
    return lambda: torch.tensor([compute(c) for c in scales])


def _broken_line(x: Tensor, knots: Tensor, factors: Tensor, bias: Tensor) -> Tensor:
    return bias + torch.relu(x[:, None] - knots[:-1]) @ factors


def _trail(x: Tensor, y: Tensor, passes: int, **settings: float) -> tuple[Tensor, Tensor]:
    """Weights and bias ``(passes * N, D + 1)`` after each example, and where a correction was made."""
    tie, always = settings.get("tie", True), settings.get("always", False)
    direction, down, bias = settings.get("direction", 1), settings.get("down", 1), settings.get("bias", 1)
    turned = torch.tensor([settings.get("weights", 1)] * x.shape[1] + [1])
    inputs = torch.cat([x, x.new_full((len(x), 1), bias)], dim=1)
    w, rows, marks = inputs.new_zeros(inputs.shape[1]), [], []
    for _ in range(passes):
        for one, label in zip(inputs, y.tolist(), strict=True):
            z = float(one @ w)
            wrong = bool(always) or (z >= 0 if tie else z > 0) != bool(label)
            if wrong:
                w = w + direction * (1 if label else -down) * turned * one
            rows.append(w)
            marks.append(wrong)
    return torch.stack(rows), torch.tensor(marks)


def _perceptron(x: Tensor, y: Tensor, passes: int, **settings: float) -> Tensor:
    return _trail(x, y, passes, **settings)[0][-1]


def _in_batches(x: Tensor, y: Tensor, passes: int) -> Tensor:
    inputs = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    w = inputs.new_zeros(inputs.shape[1])
    for _ in range(passes):
        w = w + ((y - (inputs @ w >= 0).long())[:, None] * inputs).sum(0)
    return w


def _best_bound(c: float) -> float:
    """By Lawson & Hanson's least-distance programming: the shortest (w, b) with scores of at least 1, right side up."""
    inputs = np.c_[c * CORNERS.numpy(), np.ones(4)]
    signed = inputs * np.array([-1, 1, 1, 1])[:, None]
    system = np.vstack([signed.T, np.ones(4)])
    target = np.array([0.0, 0.0, 0.0, 1.0])
    residual = system @ nnls(system, target)[0] - target
    shortest = -residual[:3] / residual[3]
    return float((inputs**2).sum(1).max() * (shortest @ shortest))


def _pair(result: object, size: int) -> Tensor:
    """Weights and bias as one vector."""
    if result is None or result is ...:
        raise NotImplementedError
    if not isinstance(result, Sequence) or len(result) != 2:
        got = (
            f"{len(result)} value{'s' * (len(result) != 1)}" if isinstance(result, Sequence) else type(result).__name__
        )
        raise Wrong(f"expected a pair: first {size} number{'s' * (size > 1)}, then the bias; got {got}")
    if any(part is None or part is ... for part in result):
        raise NotImplementedError
    first = _numbers(result[0], (size,), f"{size} numbers as the first of the pair")
    second = torch.as_tensor(result[1]).detach().double().flatten()
    if len(second) != 1:
        raise Wrong(f"expected one number as the second of the pair, got {len(second)}")
    return torch.cat([first, second])


def _numbers(value: object, shape: tuple[int, ...], what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"expected {what}, got {value!r}") from None
    if tensor.shape != shape:
        raise Wrong(f"expected {what}, got shape {tuple(tensor.shape)}")
    return tensor


def _direction(vector: Tensor) -> Tensor:
    return vector / vector.norm()
