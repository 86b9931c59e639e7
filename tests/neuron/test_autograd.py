"""`Value` against torch.autograd and finite differences, on expressions that Hypothesis makes up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbook.neuron.autograd import Value

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (b * b + 1),
    "1 - a": lambda a, b: 1 - a,
    "2 / b": lambda a, b: 2 / (b**2 + 1),
    "3 a": lambda a, b: 3 * a,
    "-a": lambda a, b: -a,
    "a**3": lambda a, b: a**3,
    "a**0": lambda a, b: a**0,
    "sqrt": lambda a, b: (a * a + 1) ** 0.5,
    "exp": lambda a, b: (-(a * a)).exp(),
    "log": lambda a, b: (a * a + 1).log(),
    "tanh": lambda a, b: a.tanh(),
    "sigmoid": lambda a, b: a.sigmoid(),
    "relu": lambda a, b: a.relu(),
}
Program = list[tuple[str, int, int]]
programs = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 99), st.integers(0, 99)), max_size=9)
numbers = st.floats(-2, 2, allow_subnormal=False)


def run(program: Program, leaves: list[Any]) -> Any:
    pool = list(leaves)
    for name, i, j in program:
        pool.append(OPERATIONS[name](pool[i % len(pool)], pool[j % len(pool)]))
    result = pool[0]
    for number in pool[1:]:
        result = result + number.tanh()  # everything is used once more, and stays of one size
    return result


@settings(max_examples=200, deadline=None)
@given(programs, st.lists(numbers, min_size=1, max_size=4))
def test_values_and_gradients_equal_torch(program: Program, start: list[float]) -> None:
    ours = [Value(x) for x in start]
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in start]
    f, g = run(program, ours), run(program, theirs)
    f.backward()
    g.backward()
    assert f.data == pytest.approx(g.item(), rel=1e-9, abs=1e-9)
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad == pytest.approx(b.grad.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"relu"}))
@pytest.mark.parametrize("x", [-1.3, 0.4, 2.1])
def test_each_operation_against_central_differences(name: str, x: float) -> None:
    a, b = Value(x), Value(0.7)
    OPERATIONS[name](a, b).backward()
    h = 1e-5
    up, down = (OPERATIONS[name](Value(x + s * h), Value(0.7)).data for s in (1, -1))
    assert a.grad == pytest.approx((up - down) / (2 * h), abs=1e-8)


@pytest.mark.parametrize(("x", "slope"), [(-1.0, 0.0), (0.0, 0.0), (2.0, 1.0)])
def test_relu_has_torchs_slope_at_zero_too(x: float, slope: float) -> None:
    a = Value(x)
    a.relu().backward()
    t = torch.tensor(x, requires_grad=True)
    t.relu().backward()
    assert a.grad == slope == t.grad


def test_sigmoid_does_not_overflow() -> None:
    for x in (-800.0, 800.0):
        assert Value(x).sigmoid().data == torch.sigmoid(torch.tensor(x, dtype=torch.float64)).item()


@pytest.mark.parametrize("x", [-700.0, -40.0, -38.0, -1.5, 0.0, 1.5, 38.0])
def test_sigmoid_keeps_its_digits_far_out(x: float) -> None:
    a, t = Value(x), torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y, s = a.sigmoid(), t.sigmoid()
    y.backward()
    s.backward()
    assert y.data == pytest.approx(s.item(), rel=1e-12, abs=0)
    assert a.grad == pytest.approx(t.grad.item(), rel=1e-12, abs=1e-300)


def test_a_second_backward_adds_to_leaves_as_in_torch() -> None:
    a, b = Value(2), Value(3)
    u = a * b
    f = u * b + u
    t, s = (torch.tensor(x, requires_grad=True) for x in (2.0, 3.0))
    v = t * s
    g = v * s + v
    for _ in range(3):
        f.backward()
        g.backward(retain_graph=True)
        assert (a.grad, b.grad) == (t.grad, s.grad)
    assert u.grad == 4  # not kept from one call to the next


def test_two_outputs_add_up() -> None:
    a = Value(3)
    (a * a).backward()
    (2 * a).backward()
    assert a.grad == 6 + 2


def test_a_leaf_is_its_own_derivative() -> None:
    a = Value(5)
    a.backward()
    assert a.grad == 1


def test_the_graph_may_be_deep_and_wide() -> None:
    a = x = Value(0.5)
    for _ in range(20_000):
        x = x * 1.0
    assert len(x.ancestors()) == 40_001
    x.backward()
    assert a.grad == 1
    y = a
    for _ in range(60):  # 2**60 paths, 120 edges
        y = y + y
    a.grad = 0.0
    y.backward()
    assert a.grad == 2.0**60


def test_ancestors_come_before_what_they_make() -> None:
    a, b = Value(1), Value(2)
    u = a + b
    order = (u * b + u).ancestors()
    place = {value: i for i, value in enumerate(order)}
    assert len(place) == len(order) == 5
    assert all(place[operand] < place[value] for value in order for operand, _ in value.edges)


def test_errors_and_names() -> None:
    with pytest.raises(TypeError, match=r"exponent as a number, got Value\(3, .*; for a Value b, write"):
        Value(2) ** Value(3)  # type: ignore[operator]
    for call, what in (
        (lambda: Value(-1).log(), r"log\(-1\)"),
        (lambda: Value(0).log(), r"log\(0\)"),
        (lambda: Value(1000).exp(), r"exp\(1000\)"),
        (lambda: Value(0) ** -1, r"\(0\)\*\*-1"),
        (lambda: 1 / Value(0), r"\(0\)\*\*-1"),
        (lambda: Value(-2) ** 0.5, r"\(-2\)\*\*0\.5"),
        (lambda: Value(1e200) ** 2, r"\(1e\+200\)\*\*2"),
        (lambda: -(1 - Value(40).sigmoid()).log(), r"log\(0\)"),  # the cross-entropy of a neuron that is sure
    ):
        with pytest.raises(ValueError, match=f"finite real number and slope, got {what}; keep its input"):
            call()
    for bad in ("3", None, [1], 10**400, 1j):
        with pytest.raises(TypeError, match="expected data as a number, got .*; use one float"):
            Value(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected data as a number, got '3'"):
        Value(1) + "3"  # type: ignore[operator]
    assert repr(Value(2)) == "Value(2, grad=0)"
    assert [(Value(1) + 1).op, Value(1).tanh().op, (Value(4) ** 0.5).op, Value(1).op] == ["+", "tanh", "**0.5", ""]


def test_the_file_is_short_enough_to_read() -> None:
    import inspect

    from cvbook.neuron import autograd

    assert len(inspect.getsource(autograd).splitlines()) <= 100


def test_a_neuron_learns_what_a_torch_neuron_learns() -> None:
    data = [(-1.0, 0.0), (0.3, 1.0), (1.5, 1.0), (-0.2, 0.0)]
    w, b = Value(0.5), Value(-0.5)
    layer = torch.tensor([0.5, -0.5], dtype=torch.float64, requires_grad=True)
    for _ in range(20):
        loss = sum(((w * x + b).sigmoid() - y) ** 2 for x, y in data) * 0.25
        w.grad = b.grad = 0.0
        loss.backward()
        w.data, b.data = w.data - w.grad, b.data - b.grad
        xs, ys = torch.tensor(data, dtype=torch.float64).T
        torch.nn.functional.mse_loss((layer[0] * xs + layer[1]).sigmoid(), ys).backward()
        with torch.no_grad():
            layer -= layer.grad
        layer.grad = None
    assert (w.data, b.data) == pytest.approx(tuple(layer.tolist()), rel=1e-12)
    assert math.isfinite(w.data)
