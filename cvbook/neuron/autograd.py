"""Reverse-mode automatic differentiation of single numbers: each remembers which numbers it was made from.

Forward, every operation stores its result and, on each edge to an operand, the local derivative. Backward, gradients
flow along the same edges, each edge once (Linnainmaa 1976, https://doi.org/10.1007/BF01931367).
"""

from __future__ import annotations

import math

from cvbook._arguments import number, real

__all__ = ["Value"]


class Value:
    """A number in a graph of operations.

    ``edges`` holds a pair (operand, d self / d operand) for each operand; a leaf has none. ``op`` names the operation.
    `backward` adds to the ``grad`` of leaves, as torch does: set it to 0 before you start afresh.

    >>> a, b = Value(2), Value(-3)
    >>> f = a * b + a
    >>> f.backward()
    >>> f.data, a.grad, b.grad
    (-4.0, -2.0, 2.0)
    """

    __slots__ = ("data", "edges", "grad", "op")

    def __init__(self, data: float, edges: tuple[tuple[Value, float], ...] = (), op: str = "") -> None:
        self.data, self.grad, self.edges, self.op = number("data", data), 0.0, edges, op

    def __repr__(self) -> str:
        return f"Value({self.data:g}, grad={self.grad:g})"

    def __add__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)), "+")

    def __mul__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data * other.data, ((self, other.data), (other, self.data)), "*")

    def __pow__(self, n: float) -> Value:
        x, n = self.data, number("the exponent", n, "for a Value b, write (b * a.log()).exp()")
        y, slope = real(f"({x:g})**{n:g}", lambda: (x**n, n * x ** (n - 1) if n else 0.0))
        return Value(y, ((self, slope),), f"**{n:g}")

    def exp(self) -> Value:
        y, _ = real(f"exp({self.data:g})", lambda: (math.exp(self.data), 0.0))
        return Value(y, ((self, y),), "exp")

    def log(self) -> Value:
        y, slope = real(f"log({self.data:g})", lambda: (math.log(self.data), 1 / self.data))
        return Value(y, ((self, slope),), "log")

    def tanh(self) -> Value:
        y = math.tanh(self.data)
        return Value(y, ((self, 1 - y * y),), "tanh")

    def sigmoid(self) -> Value:
        y = math.exp(min(self.data, 0.0)) / (1 + math.exp(-abs(self.data)))  # 1 / (1 + exp(-x)), without overflow
        return Value(y, ((self, y * (1 - y)),), "sigmoid")

    def relu(self) -> Value:
        return Value(max(self.data, 0.0), ((self, float(self.data > 0)),), "relu")

    __radd__, __rmul__ = __add__, __mul__  # these and what follows need no derivative of their own
    __neg__ = lambda self: self * -1.0  # noqa: E731
    __sub__ = lambda self, other: self + -_value(other)  # noqa: E731
    __rsub__ = lambda self, other: -self + other  # noqa: E731
    __truediv__ = lambda self, other: self * _value(other) ** -1.0  # noqa: E731
    __rtruediv__ = lambda self, other: self**-1.0 * other  # noqa: E731

    def ancestors(self) -> list[Value]:
        """Everything that self was made from, operands before results, self last: a topological order."""
        order, seen, todo = list[Value](), set[Value](), [(self, False)]  # no recursion: the graph may be deep
        while todo:
            value, operands_done = todo.pop()
            if operands_done:
                order.append(value)
            elif value not in seen:
                seen.add(value)
                todo += [(value, True), *((operand, False) for operand, _ in value.edges)]
        return order

    def backward(self) -> None:
        """Add d self / d leaf to the ``grad`` of every leaf; the grads in between are those of this call alone."""
        order = self.ancestors()
        for value in (value for value in order if value.edges):
            value.grad = 0.0
        self.grad += 1.0
        for value in reversed(order):  # a value comes after everything that uses it, so its grad is complete
            for operand, slope in value.edges:
                operand.grad += slope * value.grad


def _value(x: Value | float) -> Value:
    return x if isinstance(x, Value) else Value(x)
