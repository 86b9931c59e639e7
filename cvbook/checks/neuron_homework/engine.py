"""Checks of the homework on neurons, exercise 4: new operations for `Value`, and a sweep over a tape."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from cvbook.checks.answers import called, tensor
from cvbook.checks.verdict import Wrong, equal, exercise
from cvbook.neuron.autograd import Value

__all__ = ["logsumexp", "logsumexp_large", "power", "sweep"]

Tape = list[list[tuple[int, float]]]
EDGE = (Value, Real)  # NumPy's numbers are Real as well


@exercise("Exercise 4, power")
def power(answer: Callable[[Value, Value], Value], *, seed: int = 0) -> str:
    """``answer(a, b)``: a to the power of b as one Value with two edges, against torch.autograd."""
    g = torch.Generator().manual_seed(seed)
    for x, y in (0.5 + 2 * torch.rand(4, 2, generator=g, dtype=torch.float64)).tolist():
        _power(answer, x, y if x > 1.2 else -y)
    a = Value(x)
    twice = _value(answer(a, a), "power(a, a)")
    twice.backward()
    s = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (s**s).backward()
    expected = float(s.grad) if s.grad is not None else math.nan
    if abs(a.grad - expected) > 1e-6:
        raise Wrong(f"power(a, a) at a = {x:.3f}: expected the gradient {expected:.5g}, got {a.grad:.5g}; "
                    "one edge for the base and one for the exponent, even if both lead to the same box")  # fmt: skip
    return "right: two slopes, and the exponent learns as well"


def _power(answer: Callable[[Value, Value], Value], x: float, y: float) -> None:
    a, b = Value(x), Value(y)
    got = _value(answer(a, b), "power(a, b)")
    if (a.data, b.data) != (x, y):
        raise Wrong("your function changes the data of its operands; make a new Value")
    what = f"a = {x:.3f} and b = {y:.3f}"
    value, log = x**y, math.log(x)
    values = {
        "this is b to the power of a": torch.tensor(y).double() ** x,
        "this is a times b": torch.tensor(x * y).double(),
        "the value is e to the power of b: the logarithm of a is missing": torch.tensor(y).double().exp(),
    }
    equal(got.data, torch.tensor(value).double(), mistakes=values, what=f"the value at {what}")
    operands = [operand for operand, _ in got.edges]
    if operands and not any(operand is a or operand is b for operand in operands):
        raise Wrong("the edges lead to boxes in between; make one Value whose edges lead to a and b themselves")
    if not any(operand is b for operand in operands):
        raise Wrong("no edge leads to b: the exponent is a Value too, and has a slope of its own")
    if not any(operand is a for operand in operands):
        raise Wrong("no edge leads to a; make one box whose edges lead to a and b themselves")
    (got * got + got).backward()  # used twice, and no leaf
    outer = 2 * value + 1
    by_a, by_b = y * x ** (y - 1), value * log
    for name, grad, right, slopes in (
        ("a", a.grad, by_a, {
            "the factor b is missing: the slope of a**b by a is b a**(b - 1)": x ** (y - 1),
            "the exponent stays b; it falls to b - 1": y * value,
            "this is a constant base's slope, a**b ln a; it belongs to b": by_b,
            "the power is missing: the slope is b a**(b - 1)": y,
        }),
        ("b", b.grad, by_b, {
            "the factor ln a is missing": value,
            "the logarithm has the base 10; ln is math.log": value * math.log10(x),
            "the logarithm is that of b; take ln a": value * math.log(abs(y)),
            "this is the slope by a; differentiate e**(b ln a) by b": by_a,
            "the factor a**b is missing": log,
        }),
    ):  # fmt: skip
        mistakes = {
            f"the gradient of {name}: {text}": torch.tensor(outer * slope).double() for text, slope in slopes.items()
        }
        equal(grad, torch.tensor(outer * right).double(), mistakes=mistakes, what=f"the gradient of {name} "
              f"through u*u + u, u = power(a, b), at {what}")  # fmt: skip


@exercise("Exercise 4, log-sum-exp")
def logsumexp(answer: Callable[[list[Value]], Value], *, seed: int = 0) -> str:
    """``answer(values)``: ln of the sum of exp as a Value, its gradients the softmax; also with one Value twice."""
    g = torch.Generator().manual_seed(seed)
    for count in (3, 1, 2, 4 + seed % 5):
        x = torch.randn(count, generator=g, dtype=torch.float64)
        _logsumexp(answer, x, list(range(count)))
    _logsumexp(answer, torch.randn(2, generator=g, dtype=torch.float64), [0, 1, 0])
    return "right: the slopes are a softmax"


def _logsumexp(answer: Callable[[list[Value]], Value], x: Tensor, order: list[int]) -> None:
    leaves = [Value(v) for v in x.tolist()]
    got = _sum_of(answer, [leaves[i] for i in order])
    what = f"{len(order)} value(s)" + (", one of them twice" if len(order) > len(x) else "")
    source = x.clone().requires_grad_()
    z = source[order]
    right = torch.logsumexp(z, 0)
    values = {
        "the logarithm is missing: this is the sum of the exponentials": z.exp().sum(),
        "the exponentials are missing: this is the logarithm of the sum": z.sum().log(),
        "the largest value is subtracted, but not added again at the end": right - z.amax(),
        "this is the mean of the exponentials inside; take their sum": right - math.log(len(order)),
        "this is the largest value": z.amax(),
        "the logarithm has the base 10; ln is math.log": z.exp().sum().log10(),
    }
    equal(got.data, right.detach(), mistakes={k: v.detach() for k, v in values.items()}, what=what)
    (got * got).backward()
    (wanted,) = torch.autograd.grad(right**2, source)
    e, outer = z.detach().exp(), 2 * float(right.detach())

    def spread(slopes: Tensor) -> Tensor:
        return torch.zeros_like(x).index_add(0, torch.tensor(order), outer * slopes)

    last = torch.zeros_like(x)
    last[order] = outer * (e / e.sum())
    gradients = {
        "the slopes are the exponentials; divide them by their sum": spread(e),
        "the slopes are all 1": spread(torch.ones_like(e)),
        "the slopes are all equal; a larger value has a larger share": spread(torch.full_like(e, 1 / len(e))),
        "only the largest value gets a gradient; the others have a share too": spread(
            torch.eye(len(e)).double()[e.argmax()]
        ),
        "the slopes are 1 / sum; the exponential on top is missing": spread(torch.ones_like(e) / e.sum()),
        "each slope lacks the exponential on top: it is exp(v - largest) / sum": spread(
            torch.ones_like(e) * e.amax() / e.sum()
        ),
        "a value that occurs twice gets one share; there is one edge for each entry of the list": last,
        "no gradient arrives: the result needs edges to the values": torch.zeros_like(x),
    }
    grads = torch.tensor([leaf.grad for leaf in leaves]).double()
    equal(grads, wanted, mistakes=gradients, what=f"the gradients of {what}, through u*u")


@exercise("Exercise 4, large values")
def logsumexp_large(answer: Callable[[list[Value]], Value], *, seed: int = 0) -> str:
    """The same function at 1000 and at −1000, where exp overflows or underflows."""
    g = torch.Generator().manual_seed(seed)
    for shifts, why in (
        ([1000.0], "values near 1000: exp overflows; subtract the largest first, and add it at the end"),
        ([-1000.0], "values near -1000: all exponentials are 0 and ln 0 is minus infinity; subtract the largest first"),
        ([-1000.0, 1000.0, 0.0], "values near -1000 and near 1000 together: what is subtracted must be the largest"),
    ):
        x = torch.tensor(shifts).double() + torch.randn(3, generator=g, dtype=torch.float64)
        leaves = [Value(v) for v in x.tolist()]
        try:
            got = _sum_of(answer, leaves)
            got.backward()
        except (OverflowError, ZeroDivisionError, ValueError):
            raise Wrong(f"stopped for {why}") from None
        source = x.clone().requires_grad_()
        right = torch.logsumexp(source, 0)
        right.backward()
        grads = torch.tensor([leaf.grad for leaf in leaves]).double()
        good = math.isclose(got.data, right.item(), rel_tol=1e-9, abs_tol=1e-9)
        if not good or source.grad is None or not torch.allclose(grads, source.grad, atol=1e-8):
            raise Wrong(f"wrong for {why}")
    return "right at 1000, at -1000 and at both"


def _sum_of(answer: Callable[[list[Value]], Value], values: list[Value]) -> Value:
    given, before = list(values), [value.data for value in values]
    got = _value(answer(given), "logsumexp(values)")
    if given != values or [value.data for value in values] != before:
        raise Wrong("your function changes the list or the data it is given; make new Values")
    return got


def _value(value: Any, what: str) -> Value:
    if value is None or value is ...:
        raise NotImplementedError
    if not isinstance(value, Value):
        raise Wrong(f"expected a Value from {what}, got a {type(value).__name__}")
    for edge in value.edges:
        if not isinstance(edge, (tuple, list)) or [isinstance(p, k) for p, k in zip(edge, EDGE)] != [True, True]:  # noqa: B905
            raise Wrong(f"an edge is a pair (operand, local derivative), a Value and a number, got {edge!r}")
    return value


@exercise("Exercise 4, the sweep")
def sweep(answer: Callable[[Tape], Any], *, seed: int = 0) -> str:
    """``answer(tape)``: d last / d entry for all entries, against the sum over all paths by a matrix inverse."""
    g = torch.Generator().manual_seed(seed)
    tapes: dict[str, Tape] = {
        "f = a·b + a": [[], [], [(0, 3.0), (1, 2.0)], [(2, 1.0), (0, 1.0)]],
        "f = a + a": [[], [(0, 1.0), (0, 1.0)]],
        "the diamond u = a + b, f = u·b + u": [
            [], [], [(0, 1.0), (1, 1.0)], [(2, 2.0), (1, 3.0)], [(3, 1.0), (2, 1.0)],
        ],
        "a single entry": [[]],
    }  # fmt: skip
    for size in (8, 12 + seed % 5):
        tape: Tape = [[], [], []]
        while len(tape) < size:
            picks = torch.randint(len(tape), (2,), generator=g).tolist()
            tape.append([(j, float(torch.randint(-3, 4, (), generator=g))) for j in picks])
        tapes[f"a random tape of {size} entries"] = tape
    got = {name: tensor(called(answer, tape=tape), name) for name, tape in tapes.items()}
    right = {name: _paths(tape) for name, tape in tapes.items()}
    if any(got[name].shape != right[name].shape or not torch.allclose(got[name], right[name]) for name in tapes):
        for kind, sentence in SWEEP_MISTAKES.items():
            if all(torch.equal(got[name], _swept(tape, kind)) for name, tape in tapes.items()):
                raise Wrong(sentence)
    for name in tapes:
        equal(got[name], right[name], what=name)
    return "right, for every entry"


SWEEP_MISTAKES = {
    "assign": "an entry that is used twice keeps its last share only; add the shares up with +=",
    "forward": "the tape is read from the front; an entry is complete only after all that use it, so read from the end",
    "early": "gradients are passed on before they are complete, and then again; walk the tape once, from its end",
    "no seed": "everything is zero: the derivative of the last entry by itself is 1",
    "turned": "this is the derivative of each entry by the first one; wanted is that of the last entry by each",
    "leaves": "only entries with an empty list are kept; return the gradient of every entry",
}


def _paths(tape: Tape) -> Tensor:
    """I + A + A² + ... = (I - A)⁻¹ adds up the products along all paths; its last row is what is wanted."""
    A = torch.zeros(len(tape), len(tape), dtype=torch.float64)
    for i, pairs in enumerate(tape):
        for j, slope in pairs:
            A[i, j] += slope
    return torch.linalg.inv(torch.eye(len(tape)).double() - A)[-1]


def _swept(tape: Tape, mistake: str) -> Tensor:
    grads = torch.zeros(len(tape), dtype=torch.float64)
    if mistake == "turned":
        grads[0] = 1
        for i, pairs in enumerate(tape[1:], 1):
            grads[i] = sum(slope * float(grads[j]) for j, slope in pairs)
        return grads
    if mistake != "no seed":
        grads[-1] = 1

    def push(i: int) -> None:
        for j, slope in tape[i]:
            grads[j] += slope * grads[i]
            push(j)

    if mistake == "early":
        push(len(tape) - 1)
        return grads
    for i in range(len(tape)) if mistake == "forward" else reversed(range(len(tape))):
        for j, slope in tape[i]:
            grads[j] = slope * grads[i] + (0 if mistake == "assign" else grads[j])
    if mistake == "leaves":
        grads = grads * torch.tensor([not pairs for pairs in tape])
    return grads
