"""Checks of the homework on convolutional networks, exercise 4: where the "+1" of a residual block survives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import called, close, derived, number, tensor
from cvbook.checks.cnns_homework.budgets import draw
from cvbook.checks.verdict import equal, exercise

__all__ = ["branch_std", "original", "preactivation"]


def _cases(seed: int) -> list[tuple[list[Tensor], Tensor]]:
    """Weights (D, D) of one to four blocks, and an input (D,), in float64."""
    g = torch.Generator().manual_seed(seed)
    cases = []
    for blocks, D in ((1, 4), (2, 3), (4, 5), (3, 2 + draw(g, 1, 4)), (2, 6)):
        weights = [0.7 * torch.randn(D, D, generator=g, dtype=torch.float64) for _ in range(blocks)]
        cases.append((weights, torch.randn(D, generator=g, dtype=torch.float64)))
    return cases


def _original(weights: list[Tensor], x: Tensor) -> Tensor:
    for W in weights:
        x = F.relu(x + W @ x)
    return x


def _preactivation(weights: list[Tensor], x: Tensor) -> Tensor:
    for W in weights:
        x = x + W @ F.relu(x)
    return x


def _jacobian(f: Callable[..., Tensor], weights: list[Tensor], x: Tensor) -> Tensor:
    found = torch.autograd.functional.jacobian(lambda t: f(weights, t), x)
    assert isinstance(found, Tensor)
    return found


def _product(
    f: Callable[..., Tensor], weights: list[Tensor], x: Tensor, one: Callable[..., Tensor], *, backward: bool = False
) -> Tensor:
    """The product of ``one(W, input of the block, I)`` over the blocks."""
    eye = torch.eye(len(x), dtype=x.dtype)
    J = eye
    for W in weights:
        J = J @ one(W, x, eye) if backward else one(W, x, eye) @ J
        x = f([W], x)
    return J


def _entries(f: Callable[..., Tensor], weights: list[Tensor], x: Tensor) -> Tensor:
    """The matrices of the blocks, multiplied entry by entry."""
    J = torch.eye(len(x), dtype=x.dtype)
    for W in weights:
        J, x = J * _jacobian(f, [W], x), f([W], x)
    return J


Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def _bare(weights: list[Tensor], x: Tensor) -> Tensor:
    """Blocks without their ReLU."""
    for W in weights:
        x = x + W @ x
    return x


def _check(answer: Callable[..., Any], f: Callable[..., Tensor], seed: int, rule: Rule, wrong: dict[str, Rule]) -> None:
    for weights, x in _cases(seed):
        right = _jacobian(f, weights, x)

        def product(one: Rule, weights: list[Tensor] = weights, x: Tensor = x, **how: bool) -> Tensor:
            return _product(f, weights, x, one, **how)

        mistakes: dict[str, Callable[[], object]] = {
            "the matrices are multiplied in the wrong order: the last block stands on the left": (
                lambda product=product: product(rule, backward=True)  # type: ignore[misc]
            ),
            "this is the transpose: row i belongs to output i, column j to input j": right.T.clone,
            "this is the last block alone; the chain rule multiplies all of them": (
                lambda w=weights, x=x: _jacobian(f, w[-1:], f(w[:-1], x))  # type: ignore[misc]
            ),
            "this is the first block alone; the chain rule multiplies all of them": (
                lambda w=weights, x=x: _jacobian(f, w[:1], x)  # type: ignore[misc]
            ),
            "the matrices are added up; the chain rule multiplies them": (
                lambda w=weights, x=x: sum(_jacobian(f, [W], f(w[:i], x)) for i, W in enumerate(w))  # type: ignore[misc]
            ),
            "each block looks at the first input; its own input is what the block before returns": (
                lambda w=weights, x=x: torch.linalg.multi_dot(
                    [*(_jacobian(f, [W], x) for W in w[::-1]), torch.eye(len(x), dtype=x.dtype)]
                )  # type: ignore[misc]
            ),
            "the next block gets x + W x; it gets what this block returns": (
                lambda w=weights, x=x: _product(_bare, w, x, rule)  # type: ignore[misc]
            ),
            "the matrices are multiplied entry by entry (*); the chain rule wants the product of matrices (@)": (
                lambda w=weights, x=x: _entries(f, w, x)  # type: ignore[misc]
            ),
            "this is the output of the chain, not its derivative": (
                lambda w=weights, x=x: f(w, x)  # type: ignore[misc]
            ),
        }
        mistakes |= {sentence: (lambda one=one, p=product: p(one)) for sentence, one in wrong.items()}  # type: ignore[misc]
        what = f"{len(weights)} block(s) of {len(x)} numbers"
        got = derived(answer, weights=weights, x=x)
        equal(tensor(got, what), right, mistakes=mistakes, what=what)


def _on(z: Tensor) -> Tensor:
    """ReLU's slopes on the diagonal."""
    return torch.diag((z > 0).to(z.dtype))


@exercise("Exercise 4, the original block")
def original(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(weights, x)``: the Jacobian of blocks ReLU(x + W x), against autograd."""

    def rule(W: Tensor, x: Tensor, eye: Tensor) -> Tensor:
        return _on(x + W @ x) @ (eye + W)

    wrong: dict[str, Rule] = {
        "the ReLU after the addition is ignored: it stops what is negative": lambda W, x, eye: eye + W,
        "the shortcut is missing: the sum x + W x has the derivative 1 + W": lambda W, x, eye: _on(x + W @ x) @ W,
        "the ReLU masks the branch only; it comes after the addition": lambda W, x, eye: eye + _on(x + W @ x) @ W,
        "the ReLU masks the shortcut only; it comes after the addition": lambda W, x, eye: _on(x + W @ x) + W,
        "the ReLU looks at the input x; it sees the sum x + W x": lambda W, x, eye: _on(x) @ (eye + W),
        "the ReLU looks at the branch W x; it sees the sum x + W x": lambda W, x, eye: _on(W @ x) @ (eye + W),
        "the mask is on the wrong side: it zeroes rows, so it stands on the left": (
            lambda W, x, eye: (eye + W) @ _on(x + W @ x)
        ),
        "this is the pre-activation block, in which the ReLU comes first": lambda W, x, eye: eye + W @ _on(x),
        "1 is added to every entry; the derivative of x by x is the identity matrix": (
            lambda W, x, eye: _on(x + W @ x) @ (1 + W)
        ),
    }
    _check(answer, _original, seed, rule, wrong)
    return "right: the ReLU closes the shortcut, too"


@exercise("Exercise 4, the pre-activation block")
def preactivation(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(weights, x)``: the Jacobian of blocks x + W ReLU(x), against autograd."""

    def rule(W: Tensor, x: Tensor, eye: Tensor) -> Tensor:
        return eye + W @ _on(x)

    wrong: dict[str, Rule] = {
        "the shortcut is missing: it adds the identity matrix": lambda W, x, eye: W @ _on(x),
        "the ReLU in the branch is ignored": lambda W, x, eye: eye + W,
        "the mask is on the wrong side: the ReLU comes before W, so it zeroes columns of W": (
            lambda W, x, eye: eye + _on(x) @ W
        ),
        "the shortcut is masked as well; no ReLU is on it": lambda W, x, eye: (eye + W) @ _on(x),
        "the mask looks at the sum; here the ReLU sees the input of the block": (
            lambda W, x, eye: eye + W @ _on(x + W @ F.relu(x))
        ),
        "this is the original block, in which the ReLU comes last": lambda W, x, eye: _on(x + W @ x) @ (eye + W),
        "1 is added to every entry; the derivative of x by x is the identity matrix": lambda W, x, eye: 1 + W @ _on(x),
    }
    _check(answer, _preactivation, seed, rule, wrong)
    return "right: each factor keeps its 1"


@exercise("Exercise 4, the size of a branch")
def branch_std(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(blocks, growth)``: the branch's factor s with which n blocks multiply the mean square by ``growth``."""
    g = torch.Generator().manual_seed(seed)
    cases = [(8, 2.0), (54, 10.0), (3, 1.5), (1, 4.0)]
    cases += [(draw(g, 2, 100), 1.2 + 20 * float(torch.rand((), generator=g))) for _ in range(3)]
    for n, growth in cases:
        mistakes = {
            "the blocks multiply the mean square, they do not add to it: take the n-th root of the growth": (
                math.sqrt((growth - 1) / n)
            ),
            "a branch of size 0 adds nothing, so the mean square stays as it is": 0.0,
            "this is s squared: take the root": growth ** (1 / n) - 1,
            "the shortcut is forgotten: a block multiplies by 1 + s**2": growth ** (1 / (2 * n)),
            "the factor of one block's mean square is 1 + s**2, not (1 + s)**2: x and the branch are independent": (
                growth ** (1 / (2 * n)) - 1
            ),
            "the factor of one block's mean square is 1 + s**2, not 1 + s, and the growth is that of the mean square": (
                math.sqrt(max(growth ** (2 / n) - 1, 0))
            ),
            "the number of blocks is ignored": math.sqrt(growth - 1),
            "this is the growth of one block": growth ** (1 / n),
            "each block gets its share of the growth, growth / n; the factors multiply": math.sqrt(growth / n),
            "the logarithm is right for very many blocks only; the factor is growth**(1/n) - 1": (
                math.sqrt(math.log(growth) / n)
            ),
        }
        got = number(called(answer, blocks=n, growth=growth), f"{n} blocks")
        close(got, _scale(n, growth), mistakes, tolerance=1e-4, what=f"{n} blocks and a growth of {growth:.4g}")
    return "right: the deeper, the smaller each branch"


def _scale(n: int, growth: float) -> float:
    """By bisection: send a mean square of 1 through the blocks, one after the other."""
    low, high = 0.0, math.sqrt(growth)
    for _ in range(100):
        s, size = (low + high) / 2, 1.0
        for _ in range(n):
            size = size + s * s * size
        low, high = (s, high) if size < growth else (low, s)
    return low
