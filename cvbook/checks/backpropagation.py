"""Checks of the exercises in the lesson *Backpropagation*."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.verdict import Missing, Wrong, equal, exercise, finite, mapping

__all__ = ["diamond", "engine", "loss_slopes", "slopes", "step_sizes", "two_layers"]

Engine = Callable[[float], Any]


@exercise("Every path counts")
def diamond(answer: Callable[[float, float], Any]) -> str:
    """``answer(a, b)``: the pair (df/da, df/db) of f = u * b + u with u = a + b; compared with autograd."""
    points = torch.randn(4, 2, dtype=torch.float64)

    def table(pair: Callable[[float, float], Any]) -> Tensor:
        return torch.tensor([[float(x) for x in _parts(pair(a, b), 2)] for a, b in points.tolist()]).double()

    leaves = points.clone().requires_grad_()
    u = leaves[:, 0] + leaves[:, 1]
    (right,) = torch.autograd.grad((u * leaves[:, 1] + u).sum(), leaves)
    three = "b reaches f in three ways; "
    mistakes = {
        "the path from u straight to f is missing: u is used twice": table(lambda a, b: (b, a + 2 * b)),
        three + "the one that does not pass through u is missing": table(lambda a, b: (b + 1, b + 1)),
        three + "those through u = a + b are missing": table(lambda a, b: (b + 1, a + b)),
        three + "the one through u and then v = u * b is missing": table(lambda a, b: (b + 1, a + b + 1)),
        "u is held fixed here, but it moves when a moves": table(lambda a, b: (0, a + b)),
        "this is the pair (df/db, df/da); swap them": right.flip(1),
    }
    equal(table(answer), right, what="four random pairs (a, b)", mistakes=mistakes)
    return "right: two paths from a, three from b"


@exercise("An engine of your own")
def engine(answer: Engine) -> str:
    """``answer``: a class like `Value` with ``+``, ``*``, ``** number``, ``relu``, ``backward``, ``data``, ``grad``."""
    tried = {"__pow__": answer(1.5) ** 3, "relu": answer(1.5).relu()}
    if empty := [name for name, result in tried.items() if result is None or result is ...]:
        raise NotImplementedError if len(empty) == 2 else Missing(f"still empty: {empty[0]}")
    a, b = (torch.rand(2, dtype=torch.float64) + 1.1).tolist()

    got = _grads(answer, lambda x, y: x * y + x, a, b)
    if got == [0, 0]:
        raise Wrong("after f.backward() every grad is 0; f.grad must start as 1, and each edge adds slope * grad")
    if _near(got, [b, a]) or _near(got, [1, a]):
        raise Wrong("f = a * b + a: a is used twice but keeps one share only; shares add up, so write += for =")
    if _near(got, [1, 0]):
        raise Wrong("f = a * b + a: u = a * b passes its grad on before it has one; start at f and walk backwards")
    _agree(got, [b + 1, a], "f = a * b + a")
    _agree(_grads(answer, lambda x, y: x + x, a, b), [2, 0], "f = a + a")

    for what, f in {
        "u * b + u": lambda x, y: (lambda u: u * y + u)(x + y),
        "u + u * b": lambda x, y: (lambda u: u + u * y)(x + y),
    }.items():
        got = _grads(answer, f, a, b)
        if any(_near(got[:1], [early]) for early in (1, b, b + 2, 2 * b + 1, 2 * b + 2)):
            raise Wrong(
                f"u = a + b, f = {what}: u passes its grad on before both shares have arrived, or more than once; "
                "handle the values in reversed topological order"
            )
        _agree(got, [b + 1, a + 2 * b + 1], f"u = a + b, f = {what}")

    for n in (3, -1):
        slope = n * a ** (n - 1)
        _agree([(answer(a) ** n).data], [a**n], f"the value of a ** {n}", kind="")
        got = _grads(answer, lambda x, y, n=n: x**n * y, a, b)
        if _near(got[:1], [b * a ** (n - 1)]):
            raise Wrong("the derivative of a ** n is n * a ** (n - 1); the factor n is missing")
        if _near(got[:1], [slope]):
            raise Wrong("** adds its local derivative alone; multiply it by the grad that arrives")
        _agree(got, [b * slope, a**n], f"f = a ** {n} * b")

    for x in (a, -a):
        _agree([answer(x).relu().data], [max(x, 0.0)], f"the value of relu at {x:.2f}", kind="")
        got = _grads(answer, lambda x, y: x.relu() * y + y, x, b)
        if x < 0 and got[0] != 0:
            raise Wrong("relu passes a gradient at a negative input; its slope there is 0")
        if _near(got[:1], [b * x]) and x > 0:
            raise Wrong("relu multiplies by its value; for a positive input its slope is 1")
        _agree(got, [b if x > 0 else 0, max(x, 0.0) + 1], f"f = relu(a) * b + b at a = {x:.2f}")

    _again(answer, a, b)
    _random_graphs(answer)
    return "right: it agrees with torch.autograd on random graphs"


def _again(answer: Engine, a: float, b: float) -> None:
    """What a second call of ``backward`` does, with and without zeroing the leaves."""
    x, y = answer(a), answer(b)
    u = x + y
    f = u * y + u
    f.backward()
    x.grad = y.grad = 0.0
    f.backward()
    if not _near([x.grad], [b + 1]) and abs(x.grad) > b + 1:
        raise Wrong(
            "f.backward(), leaves set to 0, f.backward() again: what lies in between still had its grad of the first "
            "call; set those to 0 when backward starts"
        )
    _agree([x.grad, y.grad], [b + 1, a + 2 * b + 1], "a second backward after zeroing the leaves")
    x = answer(a)
    (x * x).backward()
    (x + x).backward()
    if _near([x.grad], [2]):
        raise Wrong("two outputs share a leaf: its grad must be the sum of both calls, but the first one is lost")
    _agree([x.grad], [2 * a + 2], "(a * a).backward() and then (a + a).backward()")


def _random_graphs(answer: Engine) -> None:
    for program in torch.randint(0, 10**6, (5, 8, 3)).tolist():
        start = (torch.rand(3, dtype=torch.float64) * 2 - 1).tolist()

        def build(leaves: list[Any], program: list[list[int]] = program) -> Any:
            pool = list(leaves)
            for kind, i, j in program:
                x, y = pool[i % len(pool)], pool[j % len(pool)]
                pool.append([x + y, x * y, x**2, x.relu()][kind % 4])
            return sum(pool[1:], pool[0])

        ours = [answer(x) for x in start]
        theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in start]
        build(ours).backward()
        wanted = [float(g) for g in torch.autograd.grad(build(theirs), theirs)]
        _agree([leaf.grad for leaf in ours], wanted, "a random graph of eight operations")


@exercise("Slopes of four activations")
def slopes(answer: Callable[[Tensor, float, float], Any]) -> str:
    """``answer(x, a, alpha)``: derivatives at x by name; compared with central differences, off the kinks."""
    x = torch.cat([-0.1 - 3 * torch.rand(6), 0.1 + 3 * torch.rand(6)]).double()
    a, alpha, h = 0.3, 1.7, 1e-6
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "PReLU": lambda x: F.prelu(x, torch.tensor([a], dtype=x.dtype)),
        "ELU": lambda x: F.elu(x, alpha),
    }
    twice, positive = torch.sigmoid(torch.sigmoid(x)), x > 0
    mistakes = {
        "tanh": {
            "this is 1 - x**2; the formula holds for the output: 1 - tanh(x)**2": 1 - x**2,
            "the square is missing: 1 - tanh(x)**2": 1 - torch.tanh(x),
        },
        "sigmoid": {
            "the sigmoid is applied twice: y (1 - y) wants y = sigmoid(x)": twice * (1 - twice),
            "this is x (1 - x); the formula holds for the output": x * (1 - x),
        },
        "PReLU": {
            "the learned slope a is on the positive side; it belongs to negative inputs": torch.where(positive, a, 1.0),
            "for negative inputs the slope is a, not 0": positive.double(),
            "for negative inputs the slope is a, not a x": torch.where(positive, 1.0, a * x),
        },
        "ELU": {
            "alpha is ignored: for negative inputs the slope is alpha exp(x)": torch.where(positive, 1.0, x.exp()),
            "the constant -alpha has derivative 0": torch.where(positive, 1.0, alpha * (x.exp() - 1)),
            "for negative inputs the slope is alpha exp(x), not alpha": torch.where(positive, 1.0, alpha),
        },
    }
    if (got := answer(x.clone(), a, alpha)) is None or got is ...:
        raise NotImplementedError
    got = mapping(got, functions)
    for name, f in functions.items():
        known = {f"{name}: {sentence}": value for sentence, value in mistakes[name].items()}
        known[f"{name}: this is the function itself, not its derivative"] = f(x)
        equal(got[name], (f(x + h) - f(x - h)) / (2 * h), what=f"{name} at 12 points", mistakes=known)
    return "right: all four agree with central differences"


@exercise("Two losses after a sigmoid")
def loss_slopes(answer: Callable[[Tensor, Tensor], Any]) -> str:
    """``answer(z, y)``: the pair (d squared error / dz, d cross-entropy / dz) at points z with labels y."""
    z = torch.tensor([4.0, -3.0, -1.2, 0.7, 2.5, -4.0], dtype=torch.float64) + 0.1 * torch.rand(6).double()
    y = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    squared, entropy = _parts(answer(z.clone(), y.clone()), 2)
    leaf = z.clone().requires_grad_()
    (right_squared,) = torch.autograd.grad((0.5 * (leaf.sigmoid() - y) ** 2).sum(), leaf)
    (right_entropy,) = torch.autograd.grad(F.binary_cross_entropy(leaf.sigmoid(), y, reduction="sum"), leaf)
    a = z.sigmoid()
    mistakes = {
        "squared error: the factor a (1 - a) is missing; that is da/dz": a - y,
        "squared error: there is a factor 2 too many; the 1/2 of the loss takes it away": 2 * right_squared,
        "squared error: the sign is wrong; when a is above y, the loss grows with z": -right_squared,
    }
    equal(squared, right_squared, what="the squared error at six points", mistakes=mistakes)
    mistakes = {
        "cross-entropy: the sign is wrong; when a is above y, the loss grows with z": y - a,
        "cross-entropy: a (1 - a) cancels against the derivative of the logarithm": (a - y) * a * (1 - a),
        "cross-entropy: this is dL/da; multiply by da/dz = a (1 - a)": (a - y) / (a * (1 - a)),
        "cross-entropy: there is a factor 2 too many": 2 * (a - y),
    }
    equal(entropy, right_entropy, what="the cross-entropy at six points", mistakes=mistakes)
    return "right: (a - y) a (1 - a) is nearly 0 for a neuron that is sure and wrong, a - y is not"


@exercise("Two layers backward")
def two_layers(answer: Callable[..., Any]) -> str:
    """``answer(x, W1, W2, dy)``: the triple (dx, dW1, dW2) for h = tanh(x W1ᵀ), y = h W2ᵀ; compared with autograd."""
    for B, wide, hidden, out in ((4, 3, 5, 2), (3, 3, 3, 3)):
        x, W1, W2 = (torch.randn(shape, requires_grad=True) for shape in ((B, wide), (hidden, wide), (out, hidden)))
        z, dy = x @ W1.T, torch.randn(B, out)
        right = torch.autograd.grad(z.tanh() @ W2.T, (x, W1, W2), dy)
        got = _parts(answer(*(tensor.detach().clone() for tensor in (x, W1, W2, dy))), 3)
        dh, slope, square = dy @ W2, 1 - z.tanh() ** 2, B == wide == hidden == out
        dz, turned = dh * slope, (dy @ W2.T if square else dh) * slope
        mistakes = {
            "dW2": {
                "dW2: the input of the second layer is h, after tanh": dy.T @ z,
                "dW2 is transposed: it has the shape of W2, (outputs, inputs)": right[2].T,
                "dW2 is averaged over the batch; the shares of all images add up": right[2] / B,
            },
            "dW1": {
                "dW1: the slope of tanh is missing": dh.T @ x,
                "dW1: the slope of tanh is 1 - h**2, by its output h, not by its input": (dh * (1 - z**2)).T @ x,
                "dW1 is transposed: it has the shape of W1, (outputs, inputs)": right[1].T,
                "dW1: on the way back use W2 itself, not its transpose": turned.T @ x,
            },
            "dx": {
                "dx: the slope of tanh is missing": dh @ W1,
                "dx: on the way back use W1 itself, not its transpose": dz @ W1.T if square else right[0],
            },
        }
        for i, (name, known) in zip((2, 1, 0), mistakes.items(), strict=True):
            equal(got[i], right[i], what=f"{name}, {wide}-{hidden}-{out} units, B={B}", mistakes=known)
    return "right: the whole backward pass of a network in four products"


@exercise("The best step")
def step_sizes(answer: Mapping[str, Any]) -> str:
    """``answer``: for "float32" and "float64" the k for which h = 10**-k gives the best central differences."""
    central = {name: _best_step(name, central=True) for name in ("float32", "float64")}
    for name, best in central.items():
        k = finite(mapping(answer, central)[name], name)
        if k == best:
            continue
        if k not in range(13):
            raise Wrong(f"{name}: enter k of the step h = 10**-k, a whole number from 0 to 12, got {k:g}")
        if k == _best_step(name, central=False):
            raise Wrong(f"{name}: {k:g} is best for the one-sided difference; the central one does better elsewhere")
        if k in central.values():
            raise Wrong(f"{name}: {k:g} is best in the other precision")
        why = "rounding still dominates: take a larger step" if k > best else "the step is still too coarse"
        raise Wrong(f"{name}: at h = 10**-{k:g} {why}")
    return "right: near the cube root of the precision, where the one-sided difference wants its square root"


def _best_step(name: str, *, central: bool) -> int:
    """The whole k in 0..12 with the smallest largest error of the sigmoid's slope on 601 points."""
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    exact = x.sigmoid() * (1 - x.sigmoid())
    points = x.to(getattr(torch, name))

    def error(k: int) -> float:
        h = 10.0**-k
        down = points - h if central else points
        slope = ((points + h).sigmoid() - down.sigmoid()) / (2 * h if central else h)
        return float((slope.double() - exact).abs().max())

    return min(range(13), key=error)


def _grads(answer: Engine, f: Callable[..., Any], a: float, b: float) -> list[float]:
    x, y = answer(a), answer(b)
    f(x, y).backward()
    return [float(x.grad), float(y.grad)]


def _near(got: list[float], wanted: list[float]) -> bool:
    return all(abs(g - w) <= 1e-9 * max(1.0, abs(w)) for g, w in zip(got, wanted, strict=True))


def _agree(got: list[float], wanted: list[float], what: str, kind: str = "grads ") -> None:
    if not _near([float(g) for g in got], [float(w) for w in wanted]):
        shown = [", ".join(f"{x:.4g}" for x in values) for values in (wanted, got)]
        raise Wrong(f"{what}: expected {kind}{shown[0]}, got {shown[1]}")


def _parts(value: Any, count: int) -> list[Any]:
    if value is None or value is ...:
        raise NotImplementedError
    value = list(value) if getattr(value, "shape", ()) else value  # a tensor or an array of so many parts
    if not isinstance(value, (tuple, list)) or len(value) != count:
        raise Wrong(f"expected {count} results, got {type(value).__name__}")
    if any(part is None or part is ... for part in value):
        raise NotImplementedError
    return list(value)
