"""The perceptron rule against a loop, scikit-learn, linear programming and the theorem."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.linear_model import Perceptron

from cvbook.neuron.activations import step
from cvbook.neuron.perceptron import corrections, mistake_bound, predict, separable

PIXELS = torch.tensor(list(itertools.product((0, 1), repeat=2)))
AND, OR, XOR = (torch.tensor(labels) for labels in ([0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]))


def by_loop(x: list, y: list, passes: int) -> tuple[list, list]:
    w, b, trail = [0.0] * len(x[0]), 0.0, []
    for _ in range(passes):
        for i, (one, label) in enumerate(zip(x, y, strict=True)):
            z = sum(a * c for a, c in zip(w, one, strict=True)) + b
            if (z >= 0) != label:
                sign = 2 * label - 1
                w, b = [a + sign * c for a, c in zip(w, one, strict=True)], b + sign
                trail.append((w, b, i))
    return [*w, b], trail


def lp_separable(x: np.ndarray, y: np.ndarray) -> bool:
    signed = np.c_[x, np.ones(len(x))] * np.where(y, 1, -1)[:, None]
    free = [(None, None)] * signed.shape[1]
    return linprog(np.zeros(signed.shape[1]), A_ub=-signed, b_ub=-np.ones(len(x)), bounds=free).status == 0


def test_known_numbers_of_corrections() -> None:
    assert len(list(corrections(PIXELS, AND))) == 11
    assert len(list(corrections(PIXELS, OR))) == 5


def test_xor_goes_round_in_four_states() -> None:
    trail = [(*w.tolist(), int(b)) for w, b, _ in itertools.islice(corrections(PIXELS, XOR), 100)]
    assert len(set(trail[10:])) == 4
    assert trail[10:-4] == trail[14:]
    mistakes = [c.mistake for c in itertools.islice(corrections(PIXELS, XOR), 20, 24)]
    assert sorted(mistakes) == [0, 1, 2, 3]


points = st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3), min_size=1, max_size=9)


@given(points, st.data())
@settings(max_examples=60, deadline=None)
def test_corrections_equal_the_loop(x: list, data: st.DataObject) -> None:
    y = data.draw(st.lists(st.integers(0, 1), min_size=len(x), max_size=len(x)))
    _, trail = by_loop(x, y, 6)
    ours = itertools.islice(corrections(torch.tensor(x), torch.tensor(y)), len(trail))
    assert [(w.tolist(), int(b), i) for w, b, i in ours] == trail


def test_long_lists_are_scanned_in_blocks_without_a_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(300, 5, generator=generator, dtype=torch.float64), torch.arange(300) % 3 == 0
    _, trail = by_loop(x.tolist(), y.int().tolist(), 3)
    ours = list(itertools.islice(corrections(x, y), len(trail)))
    assert [c.mistake for c in ours] == [i for _, _, i in trail]
    torch.testing.assert_close(ours[-1].weights, torch.tensor(trail[-1][0], dtype=torch.float64))


def test_equals_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = (x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) > 0.3).long()
    order = y.argsort()  # a 0 first: at z = 0 scikit-learn calls both classes wrong, we only 0
    x, y = x[order], y[order]
    *_, last = corrections(x, y)
    theirs = Perceptron(shuffle=False, tol=None, max_iter=1000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(last.weights, theirs.coef_[0])
    assert float(last.bias) == theirs.intercept_[0]
    assert torch.equal(predict(x, last.weights, last.bias), y == 1)


def test_predict_is_the_step_of_the_chapter() -> None:
    x, w = torch.randn(50, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    assert torch.equal(predict(x, w, 0.0), step(x @ w).bool())
    assert predict(torch.zeros(1, 4), torch.zeros(4), 0.0).item()


def test_yielded_weights_do_not_change_later() -> None:
    first, *rest = corrections(PIXELS, AND)
    assert rest
    assert first.weights.tolist() == [0, 0]
    assert int(first.bias) == -1


@pytest.mark.parametrize(("inputs", "count"), [(1, 4), (2, 14), (3, 104)])
def test_separable_counts_the_threshold_functions(inputs: int, count: int) -> None:
    """https://oeis.org/A000609"""
    x = torch.tensor(list(itertools.product((0, 1), repeat=inputs)))
    labels = itertools.product((0, 1), repeat=len(x))
    assert sum(separable(x, torch.tensor(y)) for y in labels) == count


@given(points, st.data())
@settings(max_examples=60, deadline=None)
def test_separable_agrees_with_linear_programming(x: list, data: st.DataObject) -> None:
    y = data.draw(st.lists(st.integers(0, 1), min_size=len(x), max_size=len(x)))
    assert separable(torch.tensor(x), torch.tensor(y)) == lp_separable(np.array(x), np.array(y))


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
@settings(max_examples=40, deadline=None)
def test_there_are_never_more_corrections_than_the_bound(seed: int, gap: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, b = torch.randn(3, generator=generator, dtype=torch.float64), torch.randn((), generator=generator).double()
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    x = x[(x @ w + b).abs() > gap]
    y = x @ w + b > 0
    if len(x):
        bound = mistake_bound(x, y, w, b)
        assert sum(1 for _ in itertools.islice(corrections(x, y), int(bound) + 1)) <= bound


def test_bound_of_and_by_hand() -> None:
    assert mistake_bound(PIXELS, AND, torch.tensor([2, 2]), -3) == pytest.approx(51)
    assert mistake_bound(PIXELS.double(), OR, torch.tensor([2.0, 2.0]), torch.tensor(-1.0)) == pytest.approx(27)


SMALL = (torch.uint8, torch.int8, torch.int16, torch.int32)


@pytest.mark.parametrize("kind", SMALL, ids=str)
def test_small_integers_do_not_wrap_around(kind: torch.dtype) -> None:
    assert separable(PIXELS.to(kind), AND)
    assert not separable(PIXELS.to(kind), XOR)
    ours, wide = (list(corrections(x * 100, AND)) for x in (PIXELS.to(kind), PIXELS))
    assert [(w.tolist(), int(b), i) for w, b, i in ours] == [(w.tolist(), int(b), i) for w, b, i in wide]
    assert mistake_bound(PIXELS.to(kind), AND, torch.tensor([2, 2]).to(kind), -3) == pytest.approx(51)
    bright = (PIXELS * 100).to(kind)
    assert predict(bright, torch.tensor([100, 100]).to(kind), -20_000).tolist() == [False, False, False, True]


def test_predict_takes_integers_and_floats_together() -> None:
    expected = [False, False, False, True]
    assert predict(PIXELS, torch.tensor([2.0, 2.0]), -3).tolist() == expected
    assert predict(PIXELS.double(), torch.tensor([2.0, 2.0]), torch.tensor([-3])).tolist() == expected
    large = torch.tensor([[2**24 + 1]])  # odd numbers of this size are no float32
    assert predict(large, torch.tensor([1]), torch.tensor(-(2**24) - 1)).item()
    assert not predict(large, torch.tensor([1]), torch.tensor(-(2**24) - 2)).item()


def test_the_bound_is_about_a_start_at_zero() -> None:
    w, b, count = torch.tensor([-60, 40]), 100, 0
    while (wrong := (predict(PIXELS, w, b) != (AND == 1)).nonzero().flatten()).numel():
        i = int(wrong[0])
        sign = 1 if AND[i] else -1
        w, b, count = w + sign * PIXELS[i], b + sign, count + 1
    assert count > mistake_bound(PIXELS, AND, torch.tensor([2, 2]), -3)
    assert "starts at zero" in " ".join(mistake_bound.__doc__.split())


def test_errors_say_what_to_do() -> None:
    numbers = torch.tensor([2, 2])
    for x in (PIXELS.tolist(), PIXELS.numpy(), None):
        for call in (
            lambda x: next(corrections(x, AND)), lambda x: separable(x, AND), lambda x: predict(x, numbers, 0),
            lambda x: mistake_bound(x, AND, numbers, -3),
        ):  # fmt: skip
            with pytest.raises(TypeError, match="expected a torch tensor, got"):
                call(x)
    for x in (PIXELS > 0, PIXELS + 0j):
        with pytest.raises(TypeError, match=r"expected x as integers or floats, got torch\..*; convert"):
            separable(x, AND)
    with pytest.raises(TypeError, match="expected y as a torch tensor, got list"):
        next(corrections(PIXELS, AND.tolist()))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="expected finite examples"):
            next(corrections(torch.full((4, 2), bad), AND))
    with pytest.raises(ValueError, match=r"weights \(D,\), got \(4, 2\) and \(2, 1\)"):
        predict(PIXELS, numbers[:, None], 0)
    with pytest.raises(ValueError, match=r"weights \(D,\), got \(4, 2\) and \(3,\)"):
        mistake_bound(PIXELS, AND, torch.ones(3), 0)
    with pytest.raises(TypeError, match="expected weights as a torch tensor, got list"):
        mistake_bound(PIXELS, AND, [2, 2], -3)
    for bias in ("a", None, torch.ones(2)):
        with pytest.raises(TypeError, match="expected bias as a number"):
            predict(PIXELS, numbers, bias)
    with pytest.raises(ValueError, match="expected examples, got none"):
        mistake_bound(PIXELS[:0], AND[:0], numbers, -3)
    with pytest.raises(ValueError, match=r"flatten images"):
        next(corrections(torch.zeros(2, 1, 4, 4), torch.zeros(2)))
    with pytest.raises(ValueError, match=r"expected labels 0 and 1, got \[-1, 1\]"):
        next(corrections(PIXELS, 2 * AND - 1))
    with pytest.raises(TypeError, match=r"got torch.float32; use x.long\(\)"):
        separable(PIXELS.float(), AND)
    with pytest.raises(ValueError, match="fails on number 3; train it until no correction is left"):
        mistake_bound(PIXELS, AND, torch.tensor([1, 1]), -2)
