"""Each check accepts two right answers and names what is wrong with the others."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cvbook.checks import perceptron
from cvbook.checks.perceptron import _best_bound
from cvbook.neuron.perceptron import corrections


def accepts(check, *answers):
    for answer in answers:
        verdict = check(*answer) if isinstance(answer, tuple) else check(answer)
        assert verdict.passed, verdict


def rejects(check, answer, words):
    verdict = check(*answer) if isinstance(answer, tuple) else check(answer)
    assert verdict.state == "wrong", verdict
    assert words in verdict.message, verdict


def learn(x, y, passes, *, wrong=None, sign=1, bias=1, batch=False, down=1):
    """The solution of exercise 1, with switches for what one can get wrong."""
    w, b = torch.zeros(x.shape[1], dtype=x.dtype), 0.0
    wrong = wrong or (lambda z, label: (z >= 0) != bool(label))
    for _ in range(passes):
        w0, b0 = w, b
        for one, label in zip(x, y, strict=True):
            z = one @ (w0 if batch else w) + (b0 if batch else b)
            if wrong(z, label):
                step = sign * (1 if label else -down)
                w, b = w + step * one, b + step * bias
    return w, b


@pytest.mark.parametrize("check", [perceptron.rule, perceptron.averaged, perceptron.hinges, perceptron.or_bound])
def test_stub_is_not_attempted_and_crash_is_reported(check):
    assert check(lambda *a: None).state == "not attempted"
    assert check(lambda *a: ...).state == "not attempted"
    assert check(None).state == "not attempted"
    rejects(check, lambda *a: 1 / 0, "ZeroDivisionError")
    assert check(lambda *a: "many").state == "wrong"


def test_stubs_of_numbers_are_not_attempted():
    assert perceptron.three_pixels(None).state == "not attempted"
    assert perceptron.xor_by_hand(None, None, None, None).state == "not attempted"
    assert perceptron.xor_by_hand([[1, 1], [1, 1]], [-0.5, -1.5], None, None).message == "still empty: output, bias"
    assert perceptron.rule(lambda *a: (None, None)).state == "not attempted"


def test_rule():
    def in_one_vector(x, y, passes):
        x = np.c_[x.numpy(), np.ones(len(x))]
        v = np.zeros(x.shape[1])
        for one, label in list(zip(x, y.tolist(), strict=True)) * passes:
            v += (label - int(v @ one >= 0)) * one
        return v[:-1], v[-1]

    def in_the_default_type(x, y, passes):  # zeros of torch's default type fit the examples
        w, b = torch.zeros(x.shape[1]), 0
        for one, label in list(zip(x, y.tolist(), strict=True)) * passes:
            error = label - int(w @ one + b >= 0)
            w, b = w + error * one, b + error
        return w, b

    accepts(perceptron.rule, learn, in_one_vector, in_the_default_type)
    for answer, words in [
        (lambda x, y, p: learn(x, y, p, wrong=lambda z, label: True), "correct mistakes only"),
        (lambda x, y, p: learn(x, y, p, sign=-1), "sign is flipped"),
        (lambda x, y, p: learn(x, y, p, sign=-1, bias=-1), "that of the bias is right"),
        (lambda x, y, p: learn(x, y, p, bias=0), "bias never changes"),
        (lambda x, y, p: learn(x, y, p, batch=True), "whole pass"),
        (lambda x, y, p: learn(x, y, p, wrong=lambda z, label: (z > 0) != bool(label)), "compare with >="),
        (lambda x, y, p: learn(x, y, p, down=0), "is anything subtracted"),
        (lambda x, y, p: learn(x, y, 1), "one pass"),
        (lambda x, y, p: (torch.zeros(x.shape[1]), 0.0), "everything is zero"),
        (lambda x, y, p: torch.zeros(3), "first 2 numbers, then the bias; got Tensor"),
        (lambda x, y, p: (*learn(x, y, p), 3), "got 3 values"),
        (lambda x, y, p: (torch.zeros(5), 0.0), "got shape (5,)"),
    ]:
        rejects(perceptron.rule, answer, words)


def test_or_bound():
    def numerically(c):
        def longest(v):
            return v @ v

        inputs = np.array([[0, 0, -1], [0, c, 1], [c, 0, 1], [c, c, 1]], dtype=float)
        rule = {"type": "ineq", "fun": lambda v: inputs @ v - 1}
        best = minimize(longest, np.array([4 / c, 4 / c, -1.5]), constraints=rule, options={"ftol": 1e-12})
        return (2 * c * c + 1) * best.fun

    accepts(perceptron.or_bound, lambda c: (2 * c * c + 1) * (8 / (c * c) + 1), numerically)
    assert _best_bound(1) == pytest.approx(27)
    assert min(_best_bound(c) for c in (1.3, 2**0.5, 1.5)) == pytest.approx(25)
    for answer, words in [
        (lambda c: 2 * c * c * (8 / (c * c) + 1), "leaves out the constant input"),
        (lambda c: (2 * c * c + 1) * math.sqrt(8 / (c * c) + 1), "not squared"),
        (lambda c: 2 * c * c + 1, "divide it by the length"),
        (lambda c: (2 * c * c + 1) * 8 / (c * c), "in the plane of the pixels"),
        (lambda c: 16, "left out altogether"),
        (lambda c: math.sqrt((2 * c * c + 1) * (8 / (c * c) + 1)), "its square"),
        (lambda c: (2 * c * c + 1) * (8 / (c * c) + 9), "bound of AND"),
        (lambda c: 27, "expected 49.5 at index"),
        (lambda c: 0, "everything is zero"),
    ]:
        rejects(perceptron.or_bound, answer, words)


def test_the_bound_named_as_that_of_and_is_that():
    for c in (1.0, 2.0):
        inputs = np.array([[0, 0, -1], [0, -c, -1], [-c, 0, -1], [c, c, 1]])
        best = minimize(lambda v: v @ v, np.array([3 / c, 3 / c, -4]), constraints={"type": "ineq", "fun": lambda v, i=inputs: i @ v - 1})  # noqa: E501  # fmt: skip
        assert (2 * c * c + 1) * best.fun == pytest.approx((2 * c * c + 1) * (9 + 8 / (c * c)), rel=1e-4)


def test_xor_by_hand():
    ones = [[1, 1], [1, 1]]
    accepts(
        perceptron.xor_by_hand,
        (ones, [-0.5, -1.5], [1, -1], -0.5),  # OR and not AND
        (torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), [-1, -1], np.array([1, 1]), -1),  # one but not the other, either way
        ([[-2, -2], [2, 2]], [3, -1], [1, 1], -2),  # NAND and OR
    )
    for answer, words in [
        ((ones, [-0.5, -0.5], [1, 1], -1), "only one line"),
        ((ones, [-0.5, -1.5], [1, 1], -0.5), "which is OR"),
        ((ones, [-0.5, -1.5], [1, 1], -1.5), "which is AND"),
        ((ones, [-0.5, -1.5], [-1, 1], 0.5), "flip the signs of v and c"),
        ((ones, [-0.5, -1.5], [1, -1], 1.5), "whatever the input is"),
        (([[0, 0], [0, 0]], [0, 0], [0, 0], 0), "answers 1 1 1 1, whatever"),
        ((ones, [-0.5, -2.5], [1, -1], -0.5), "which is OR"),
        (([[0, 0], [1, 0]], [1, -0.5], [1, 1], -1.5), "hidden unit 0 is the same for all inputs"),
        (([[1, -1], [0, 1]], [-0.5, -0.5], [1, 1], -0.5), "which is OR"),
        (([[3, -2], [2, -3]], [-1, 1], [1, 1], 0), "answers 1 1 1 1"),
        (([1, 1], [0, 0], [0, 0], 0), "two rows of two numbers"),
        ((ones, [-0.5], [1, -1], -0.5), "two hidden biases"),
    ]:
        rejects(perceptron.xor_by_hand, answer, words)


def test_xor_by_hand_names_a_transposed_matrix():
    W, found = torch.tensor([[2.0, -1.0], [-3.0, 1.0]]), 0
    for b in itertools.product((-2.5, -1.5, -0.5, 0.5), repeat=2):
        for v in itertools.product((-1, 1), repeat=2):
            straight, turned = (perceptron.xor_by_hand(M, b, v, -0.5).passed for M in (W, W.T))
            if straight != turned:
                found += 1
                rejects(perceptron.xor_by_hand, (W.T if straight else W, b, v, -0.5), "transposed")
    assert found


def test_three_pixels():
    accepts(perceptron.three_pixels, 104, 104.0)
    for answer, words in [
        (152, "NOT separable"), (14, "two pixels"), (256, "how many functions there are"), (102, "constant functions"),
        (224, "scaled up"), (196, "14 times 14"), (0, "everything is zero"), (100, "expected 104, got 100"),
        ("some", "expected numbers"),
    ]:  # fmt: skip
        rejects(perceptron.three_pixels, answer, words)


def test_hinges():
    def solution(knots, values):
        slopes = values.diff() / knots.diff()
        return torch.cat([slopes[:1], slopes.diff()]), values[0]

    def by_equations(knots, values):
        knots, values = knots.numpy(), values.numpy()
        system = np.c_[np.maximum(knots[:, None] - knots[:-1], 0), np.ones(len(knots))]
        found = np.linalg.solve(system, values)
        return found[:-1], found[-1]

    accepts(perceptron.hinges, solution, by_equations)
    for answer, words in [
        (lambda k, v: (v.diff() / k.diff(), v[0]), "change of slope"),
        (lambda k, v: (torch.cat([v.diff()[:1], v.diff().diff()]), v[0]), "divided by run"),
        (lambda k, v: (torch.cat([v.new_zeros(1), (v.diff() / k.diff()).diff()]), v[0]), "starts flat"),
        (lambda k, v: (solution(k, v)[0], 0.0), "bias is missing"),
        (lambda k, v: (-solution(k, v)[0], v[0]), "wrong way"),
        (lambda k, v: (torch.zeros(len(k) - 1), 0.0), "everything is zero"),
        (lambda k, v: (v, 0.0), "expected"),
    ]:
        rejects(perceptron.hinges, answer, words)


def trail(x, y, passes):
    w, b, rows, marks = torch.zeros(x.shape[1], dtype=x.dtype), 0.0, [], []
    for _ in range(passes):
        for one, label in zip(x, y, strict=True):
            marks.append(bool((one @ w + b >= 0) != bool(label)))
            if marks[-1]:
                step = 1 if label else -1
                w, b = w + step * one, b + step
            rows.append(torch.cat([w, torch.tensor([b], dtype=w.dtype)]))
    return torch.stack(rows), torch.tensor(marks)


def test_averaged():
    def solution(x, y, passes):
        mean = trail(x, y, passes)[0].mean(0)
        return mean[:-1], mean[-1]

    def sum_by_survival(x, y, passes):
        """From `corrections`: each weight vector counts as long as it lived; only the direction matters."""
        total, shown, last = torch.zeros(x.shape[1] + 1, dtype=x.dtype), 0, torch.zeros(x.shape[1] + 1, dtype=x.dtype)
        for w, b, i in corrections(x, y):
            place = shown - shown % len(x) + i  # mistakes come in order, so the next one with this index
            place += len(x) * (place < shown)
            if place >= passes * len(x):
                break
            total += (place - shown) * last
            shown, last = place, torch.cat([w, b[None]])
        total += (passes * len(x) - shown) * last
        return total[:-1], total[-1]

    def split(rows):
        return rows[:-1], rows[-1]

    def frozen_bias(x, y, passes):
        rows, _ = trail(x, y, passes)
        return rows.mean(0)[:-1], rows[-1, -1]

    def before(x, y, passes):
        rows, _ = trail(x, y, passes)
        return split(torch.cat([0 * rows[:1], rows[:-1]]).mean(0))

    accepts(perceptron.averaged, solution, sum_by_survival)
    assert "are these the sums?" in perceptron.averaged(sum_by_survival).message
    assert "sums" not in perceptron.averaged(solution).message
    for answer, words in [
        (lambda x, y, p: split(trail(x, y, p)[0][-1]), "last weights"),
        (lambda x, y, p: split(trail(x, y, p)[0][trail(x, y, p)[1]].mean(0)), "mean over the corrections"),
        (frozen_bias, "bias is not"),
        (before, "before each example is shown"),
        (lambda x, y, p: split(trail(x, y, p)[0][len(x) - 1 :: len(x)].mean(0)), "ends of the passes"),
        (lambda x, y, p: (torch.zeros(x.shape[1]), 0.0), "everything is zero"),
        (lambda x, y, p: (torch.ones(x.shape[1]), 0.0), "for random examples"),
    ]:
        rejects(perceptron.averaged, answer, words)
