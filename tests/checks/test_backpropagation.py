"""Each check accepts right answers, written in two ways, and names what is wrong with the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cvbook.checks import backpropagation as check
from cvbook.neuron.autograd import Value


def rejected(verdict: Any, message: str) -> None:
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- Every path counts


def by_autograd(a: float, b: float) -> list[Tensor]:
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (a, b)]
    u = leaves[0] + leaves[1]
    return list(torch.autograd.grad(u * leaves[1] + u, leaves))


@pytest.mark.parametrize("answer", [lambda a, b: (b + 1, a + 2 * b + 1), by_autograd])
def test_diamond_accepts(answer: Callable[[float, float], Any]) -> None:
    assert check.diamond(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a, b: (0, 0), "everything is zero"),
        (lambda a, b: (b, a + 2 * b), "straight to f is missing"),
        (lambda a, b: (b + 1, b + 1), "does not pass through u"),
        (lambda a, b: (b + 1, a + b), "those through u = a + b"),
        (lambda a, b: (b + 1, a + b + 1), "through u and then v"),
        (lambda a, b: (0, a + b), "held fixed"),
        (lambda a, b: (a + 2 * b + 1, b + 1), "swap them"),
        (lambda a, b: b + 1, "expected 2 results"),
        (lambda a, b: (b + 2, a), "expected"),
    ],
)
def test_diamond_names_the_mistake(answer: Callable[[float, float], Any], message: str) -> None:
    rejected(check.diamond(answer), message)


def test_diamond_not_attempted() -> None:
    for stub in (None, lambda a, b: None, lambda a, b: ..., lambda a, b: (b, None)):
        assert check.diamond(stub).state == "not attempted"


# --- An engine of your own


class Mine:
    """The solution in the lesson, with its choices as class attributes that mutants change."""

    assign = idempotent = visit_once = forwards = False
    ordered = clear = seeded = True
    power: ClassVar[Any] = staticmethod(lambda x, n: n * x ** (n - 1))
    step: ClassVar[Any] = staticmethod(lambda x: float(x > 0))
    clipped: ClassVar[Any] = staticmethod(lambda x: max(x, 0.0))

    def __init__(self, data: float, edges: tuple[Any, ...] = ()) -> None:
        self.data, self.grad, self.edges = data, 0.0, edges

    def __add__(self, other: Any) -> Any:
        return type(self)(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: Any) -> Any:
        return type(self)(self.data * other.data, ((self, other.data), (other, self.data)))

    def __pow__(self, n: float) -> Any:
        return type(self)(self.data**n, ((self, self.power(self.data, n)),))

    def relu(self) -> Any:
        return type(self)(self.clipped(self.data), ((self, self.step(self.data)),))

    def order(self) -> list[Any]:
        done: list[Any] = []

        def visit(value: Any) -> None:
            if value not in done:
                for operand, _ in value.edges:
                    visit(operand)
                done.append(value)

        visit(self)
        return done if self.forwards else done[::-1]

    def backward(self) -> None:
        for value in self.order():
            if self.clear and (value.edges or self.idempotent):
                value.grad = 0.0
        if self.seeded:
            self.grad = 1.0
        if self.ordered:
            for value in self.order():
                self.pass_on(value)
            return
        queue, seen = [self], set()
        while queue:
            value = queue.pop(0)
            if value not in seen or not self.visit_once:
                self.pass_on(value)
                queue.extend(operand for operand, _ in value.edges)
                seen.add(value)

    def pass_on(self, value: Any) -> None:
        for operand, slope in value.edges:
            operand.grad = slope * value.grad + (0.0 if self.assign else operand.grad)


class WithClosures:
    """Another style: each result remembers a function that passes its grad on; grads are set to 0 on the way out."""

    def __init__(self, data: float, operands: tuple[Any, ...] = (), push: Callable[[Any], None] = lambda out: None):
        self.data, self.grad, self.operands, self.push = float(data), 0.0, operands, push

    def __add__(self, other: Any) -> Any:
        def push(out: Any) -> None:
            self.grad += out.grad
            other.grad += out.grad

        return WithClosures(self.data + other.data, (self, other), push)

    def __mul__(self, other: Any) -> Any:
        def push(out: Any) -> None:
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        return WithClosures(self.data * other.data, (self, other), push)

    def __pow__(self, n: float) -> Any:
        def push(out: Any) -> None:
            self.grad += n * out.data / self.data * out.grad if self.data else 0.0

        return WithClosures(self.data**n, (self,), push)

    def relu(self) -> Any:
        def push(out: Any) -> None:
            self.grad += out.grad if out.data else 0.0

        return WithClosures(self.data if self.data > 0 else 0.0, (self,), push)

    def backward(self) -> None:
        uses: dict[Any, int] = {}
        todo = [self]
        while todo:
            for operand in todo.pop().operands:
                uses[operand] = uses.get(operand, 0) + 1
                if uses[operand] == 1:
                    todo.append(operand)
        self.grad += 1.0
        ready = [self]
        while ready:  # a value is ready when all its uses have passed their share
            value = ready.pop()
            value.push(value)
            if value.operands:
                value.grad = 0.0
            for operand in value.operands:
                uses[operand] -= 1
                if not uses[operand]:
                    ready.append(operand)


@pytest.mark.parametrize("answer", [Mine, WithClosures, Value])
def test_engine_accepts(answer: type) -> None:
    verdict = check.engine(answer)
    assert verdict.passed, verdict


MUTANTS: dict[str, tuple[dict[str, Any], str]] = {
    "assigns": ({"assign": True}, "write += for ="),
    "no order": ({"ordered": False}, "reversed topological order"),
    "no order, each once": ({"ordered": False, "visit_once": True}, "reversed topological order"),
    "operands first": ({"forwards": True}, "walk backwards"),
    "no seed": ({"seeded": False}, "must start as 1"),
    "power without n": ({"power": staticmethod(lambda x, n: x ** (n - 1))}, "the factor n is missing"),
    "power, wrong exponent": ({"power": staticmethod(lambda x, n: n * x**n)}, "f = a ** 3 * b: expected"),
    "relu passes all": ({"step": staticmethod(lambda x: 1.0)}, "at a negative input"),
    "relu by value": ({"step": staticmethod(lambda x: max(x, 0.0))}, "for a positive input its slope is 1"),
    "relu does nothing": ({"clipped": staticmethod(lambda x: x)}, "the value of relu"),
    "old grads": ({"clear": False}, "still had its grad of the first call"),
    "forgets earlier outputs": ({"idempotent": True}, "the sum of both calls"),
}


@pytest.mark.parametrize(("changes", "message"), MUTANTS.values(), ids=MUTANTS)
def test_engine_names_the_mistake(changes: dict[str, Any], message: str) -> None:
    rejected(check.engine(type("Mutant", (Mine,), changes)), message)


def test_engine_rejects_zeros_and_other_slips() -> None:
    rejected(check.engine(type("Zeros", (Mine,), {"backward": lambda self: None})), "must start as 1")
    alone = {
        "pass_on": lambda self, value: [
            setattr(o, "grad", o.grad + (s if len(value.edges) == 1 else s * value.grad)) for o, s in value.edges
        ]
    }
    rejected(check.engine(type("Alone", (Mine,), alone)), "multiply it by the grad that arrives")


def test_engine_not_attempted() -> None:
    for stub in ({"__pow__": lambda self, n: None}, {"relu": lambda self: ...}):
        verdict = check.engine(type("Stub", (Mine,), stub))
        assert verdict.message == f"still empty: {next(iter(stub))}"
    assert check.engine(None).state == "not attempted"


# --- Slopes of four activations


def in_formulas(x: Tensor, a: float, alpha: float) -> dict[str, Any]:
    s = 1 / (1 + torch.exp(-x))
    return {
        "tanh": 1 - torch.tanh(x) ** 2,
        "sigmoid": s * (1 - s),
        "PReLU": torch.where(x > 0, 1.0, a),
        "ELU": torch.where(x > 0, 1.0, alpha * torch.exp(x)),
    }


def in_loops(x: Tensor, a: float, alpha: float) -> dict[str, Any]:
    return {
        "tanh": [1 / math.cosh(v) ** 2 for v in x.tolist()],
        "sigmoid": [math.exp(-v) / (1 + math.exp(-v)) ** 2 for v in x.tolist()],
        "PReLU": [1 if v > 0 else a for v in x.tolist()],
        "ELU": [1 if v > 0 else alpha * (math.exp(v) - 1) + alpha for v in x.tolist()],
    }


@pytest.mark.parametrize("answer", [in_formulas, in_loops])
def test_slopes_accepts(answer: Callable[..., Any]) -> None:
    assert check.slopes(answer).passed


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("tanh", lambda x, a, alpha: 1 - x**2, "tanh: this is 1 - x**2"),
        ("tanh", lambda x, a, alpha: 1 - x.tanh(), "square is missing"),
        ("tanh", lambda x, a, alpha: x.tanh(), "tanh: this is the function itself"),
        ("tanh", lambda x, a, alpha: 0 * x, "everything is zero"),
        ("sigmoid", lambda x, a, alpha: x.sigmoid().sigmoid() * (1 - x.sigmoid().sigmoid()), "applied twice"),
        ("sigmoid", lambda x, a, alpha: x * (1 - x), "holds for the output"),
        ("PReLU", lambda x, a, alpha: torch.where(x > 0, a, 1.0), "on the positive side"),
        ("PReLU", lambda x, a, alpha: (x > 0).float(), "the slope is a, not 0"),
        ("PReLU", lambda x, a, alpha: torch.where(x > 0, 1.0, a * x), "not a x"),
        ("ELU", lambda x, a, alpha: torch.where(x > 0, 1.0, x.exp()), "alpha is ignored"),
        ("ELU", lambda x, a, alpha: torch.where(x > 0, 1.0, alpha * (x.exp() - 1)), "has derivative 0"),
        ("ELU", lambda x, a, alpha: torch.where(x > 0, 1.0, alpha), "not alpha"),
    ],
)
def test_slopes_names_the_mistake(name: str, wrong: Callable[..., Tensor], message: str) -> None:
    rejected(check.slopes(lambda x, a, alpha: in_formulas(x, a, alpha) | {name: wrong(x, a, alpha)}), message)


def test_slopes_not_attempted_or_incomplete() -> None:
    assert check.slopes(lambda x, a, alpha: None).state == "not attempted"
    assert check.slopes(lambda x, a, alpha: in_formulas(x, a, alpha) | {"ELU": None}).state == "not attempted"
    verdict = check.slopes(lambda x, a, alpha: {"tanh": 1 - x.tanh() ** 2})
    assert verdict.message == "still empty: sigmoid, PReLU, ELU"
    rejected(check.slopes(lambda x, a, alpha: [1, 2, 3, 4]), "keys 'tanh', 'sigmoid', 'PReLU', 'ELU'")


# --- Two losses after a sigmoid


def closed_form(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    a = z.sigmoid()
    return (a - y) * a * (1 - a), a - y


def with_values(z: Tensor, y: Tensor) -> list[list[float]]:
    squared, entropy = [], []
    for v, t in zip(z.tolist(), y.tolist(), strict=True):
        leaf = Value(v)
        (0.5 * (leaf.sigmoid() - t) ** 2).backward()
        squared.append(leaf.grad)
        leaf = Value(v)
        p = leaf.sigmoid()
        (-(p if t else 1 - p).log()).backward()
        entropy.append(leaf.grad)
    return [squared, entropy]


@pytest.mark.parametrize("answer", [closed_form, with_values])
def test_loss_slopes_accepts(answer: Callable[[Tensor, Tensor], Any]) -> None:
    assert check.loss_slopes(answer).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, c, a, y: (a - y, c), "the factor a (1 - a) is missing"),
        (lambda m, c, a, y: (2 * m, c), "squared error: there is a factor 2"),
        (lambda m, c, a, y: (-m, c), "squared error: the sign"),
        (lambda m, c, a, y: (0 * m, 0 * c), "everything is zero"),
        (lambda m, c, a, y: (m, -c), "cross-entropy: the sign"),
        (lambda m, c, a, y: (m, m), "cancels against the derivative"),
        (lambda m, c, a, y: (m, c / (a * (1 - a))), "this is dL/da"),
        (lambda m, c, a, y: (m, 2 * c), "cross-entropy: there is a factor 2"),
        (lambda m, c, a, y: (m, 0 * c), "everything is zero"),
        (lambda m, c, a, y: m, "expected 2 results"),
    ],
)
def test_loss_slopes_names_the_mistake(change: Callable[..., Any], message: str) -> None:
    rejected(check.loss_slopes(lambda z, y: change(*closed_form(z, y), z.sigmoid(), y)), message)


def test_loss_slopes_not_attempted() -> None:
    for stub in (None, lambda z, y: None, lambda z, y: (None, None), lambda z, y: (closed_form(z, y)[0], ...)):
        assert check.loss_slopes(stub).state == "not attempted"


# --- Two layers backward


def products(x: Tensor, W1: Tensor, W2: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h = torch.tanh(x @ W1.T)
    dz = (dy @ W2) * (1 - h**2)
    return dz @ W1, dz.T @ x, dy.T @ h


def image_by_image(x: Tensor, W1: Tensor, W2: Tensor, dy: Tensor) -> list[Any]:
    dW1, dW2, dx = torch.zeros_like(W1), torch.zeros_like(W2), []
    for image, slope in zip(x, dy, strict=True):
        z = W1 @ image
        back = (W2.T @ slope) / torch.cosh(z) ** 2
        dW1 += torch.outer(back, image)
        dW2 += torch.outer(slope, z.tanh())
        dx.append((W1.T @ back).tolist())
    return [dx, dW1, dW2]


@pytest.mark.parametrize("answer", [products, image_by_image])
def test_two_layers_accepts(answer: Callable[..., Any]) -> None:
    assert check.two_layers(answer).passed


def back(x: Tensor, W1: Tensor, W2: Tensor, dy: Tensor) -> Tensor:
    return (dy @ W2) * (1 - torch.tanh(x @ W1.T) ** 2)


@pytest.mark.parametrize(
    ("part", "wrong", "message"),
    [
        (2, lambda x, W1, W2, dy: dy.T @ (x @ W1.T), "is h, after tanh"),
        (2, lambda x, W1, W2, dy: torch.tanh(x @ W1.T).T @ dy, "dW2 is transposed"),
        (2, lambda x, W1, W2, dy: dy.T @ torch.tanh(x @ W1.T) / len(x), "dW2 is averaged"),
        (2, lambda x, W1, W2, dy: 0 * W2, "everything is zero for dW2"),
        (1, lambda x, W1, W2, dy: (dy @ W2).T @ x, "dW1: the slope of tanh is missing"),
        (1, lambda x, W1, W2, dy: (dy @ W2 * (1 - (x @ W1.T) ** 2)).T @ x, "by its output h"),
        (1, lambda x, W1, W2, dy: x.T @ back(x, W1, W2, dy), "dW1 is transposed"),
        (1, lambda x, W1, W2, dy: back(x, W1, W2.T if len(W2) == 3 else W2, dy).T @ x, "use W2 itself"),
        (0, lambda x, W1, W2, dy: dy @ W2 @ W1, "dx: the slope of tanh is missing"),
        (0, back, "expected shape (4, 3) for dx"),
        (0, lambda x, W1, W2, dy: back(x, W1, W2, dy) @ (W1.T if len(W1) == 3 else W1), "use W1 itself"),
        (0, lambda x, W1, W2, dy: 0 * x, "everything is zero for dx"),
    ],
)
def test_two_layers_names_the_mistake(part: int, wrong: Callable[..., Tensor], message: str) -> None:
    def answer(*tensors: Tensor) -> list[Tensor]:
        parts = list(products(*tensors))
        parts[part] = wrong(*tensors)
        return parts

    rejected(check.two_layers(answer), message)


def test_two_layers_not_attempted() -> None:
    for stub in (lambda *tensors: None, lambda *tensors: (products(*tensors)[0], ..., None)):
        assert check.two_layers(stub).state == "not attempted"
    rejected(check.two_layers(lambda *tensors: products(*tensors)[:2]), "expected 3 results")


# --- The best step


def measured(dtype: torch.dtype, central: bool) -> int:
    x = torch.linspace(-3, 3, 601, dtype=dtype)
    exact = torch.linspace(-3, 3, 601, dtype=torch.float64).sigmoid()
    errors = []
    for k in range(13):
        h = 10.0**-k
        change = ((x + h).sigmoid() - (x - h).sigmoid()) / 2 if central else (x + h).sigmoid() - x.sigmoid()
        errors.append(((change / h).double() - exact * (1 - exact)).abs().max())
    return int(torch.stack(errors).argmin())


def test_step_sizes() -> None:
    best = {name: measured(getattr(torch, name), True) for name in ("float32", "float64")}
    assert best == {"float32": 2, "float64": 5}
    assert check.step_sizes(best).passed
    assert check.step_sizes({name: float(k) for name, k in best.items()}).passed
    assert check.step_sizes({"float32": None, "float64": None}).state == "not attempted"
    assert check.step_sizes(dict.fromkeys(best, ...)).state == "not attempted"
    rejected(check.step_sizes(best | {"float32": measured(torch.float32, False)}), "one-sided difference")
    rejected(check.step_sizes(best | {"float64": measured(torch.float64, False)}), "one-sided difference")
    rejected(check.step_sizes(best | {"float64": 2}), "best in the other precision")
    rejected(check.step_sizes(best | {"float64": 12}), "rounding still dominates")
    rejected(check.step_sizes({"float32": 0, "float64": 0}), "too coarse")
    for h in (1e-2, -2, 13, 2.5):
        rejected(check.step_sizes(best | {"float32": h}), "a whole number from 0 to 12")
    assert check.step_sizes(best | {"float64": None}).message == "still empty: float64"


def test_step_sizes_says_what_kind_of_answer_it_wants() -> None:
    for answer in ([2, 5], (2, 5), 2):
        rejected(check.step_sizes(answer), "expected a dictionary with the keys 'float32', 'float64', got")
    rejected(check.step_sizes({"float32": "2", "float64": "5"}), "expected a number for float32, got '2'")
    rejected(check.step_sizes({"float32": math.nan, "float64": 5}), "expected a finite number for float32")


def test_diamond_accepts_a_tensor_or_an_array_of_two() -> None:
    assert check.diamond(lambda a, b: torch.tensor([b + 1, a + 2 * b + 1], dtype=torch.float64)).passed
    assert check.diamond(lambda a, b: torch.tensor([b + 1, a + 2 * b + 1], dtype=torch.float64).numpy()).passed
    rejected(check.diamond(lambda a, b: torch.ones(3)), "expected 2 results")
