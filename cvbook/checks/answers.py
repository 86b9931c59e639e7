"""Call an answer, read what it returns so that no answer can break a check, and prepare what it is compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cvbook.checks.by_hand import by_formula
from cvbook.checks.verdict import Wrong, rounded

__all__ = [
    "Mistakes", "Stopped", "called", "close", "derived", "explained", "number", "parts", "random_statistics", "tensor",
    "unchanged",
]  # fmt: skip

Mistakes = dict[str, Callable[[], object]]
Module = TypeVar("Module", bound=nn.Module)


def called(answer: Callable[..., Any], **arguments: Any) -> Any:
    """What ``answer`` returns for copies of the arguments, which are passed by position.

    Raises:
        Wrong: if it changes an argument in place; a `Stopped` if it stops with an exception.
        NotImplementedError: if it returns ``None`` or ``...``.
    """
    given = {name: _copy(value) for name, value in arguments.items()}
    try:
        got = answer(*given.values())
    except (Wrong, NotImplementedError):
        raise
    except Exception as error:
        where = ", ".join(text for name, value in arguments.items() if (text := _described(name, value)))
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Stopped(f"your code stopped with {what}{f' (for {where})' if where else ''}") from error
    for name, value in arguments.items():
        if not _same(given[name], value):
            raise Wrong(f"your function changes its argument {name} in place; work on a copy and return the result")
    if got is None or got is ...:
        raise NotImplementedError
    return got


def explained(answer: Callable[..., Any], sentences: Mapping[str, str]) -> Callable[..., Any]:
    """The same function; of exceptions of libraries that a known mistake raises, the mistake is named.

    Args:
        answer: the reader's function.
        sentences: a part of the exception's text -> the mistake.
    """

    def call(*arguments: Any) -> Any:
        try:
            return answer(*arguments)
        except Exception as error:
            for part, sentence in sentences.items():
                if part in str(error) and not isinstance(error, Wrong):
                    raise Wrong(f"your code stopped with {type(error).__name__}: {sentence}") from None
            raise

    return call


def derived(answer: Callable[..., Any], **arguments: Any) -> Any:
    """Like `called`, for an answer that must be a formula.

    Raises:
        Wrong: also if the answer lets autograd find a derivative.
    """
    return called(by_formula(answer), **arguments)


def unchanged(answer: Callable[..., Any], *arguments: Any) -> Any:
    """What ``answer`` returns for these very arguments, some of which are modules.

    Raises:
        Wrong: if it changes a tensor in place.
    """
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    before = [value.clone() for value in tensors]
    got = answer(*arguments)
    if not all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True)):
        raise Wrong("your code changes a tensor that it was given; work on a copy: x.clone()")
    return got


def tensor(value: Any, what: str) -> Tensor:
    """The numbers of an answer in float64.

    Raises:
        NotImplementedError: if it is ``None`` or ``...``.
        Wrong: if it holds no real numbers.
    """
    if value is None or value is ...:
        raise NotImplementedError
    try:
        if isinstance(value, (tuple, list)) and value and all(isinstance(row, Tensor) for row in value):
            found = torch.stack(list(value)).detach()
        else:
            found = torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value)).detach()
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"expected numbers for {what}, got {_kind(value)}") from None
    if found.is_complex():
        raise Wrong(f"expected real numbers for {what}, got complex ones")
    return found.double()


def number(value: Any, what: str) -> float:
    """One finite real number of an answer.

    Raises:
        NotImplementedError: if it is ``None`` or ``...``.
        Wrong: if it is something else.
    """
    found = tensor(value, what)
    if found.numel() != 1:
        raise Wrong(f"expected one number for {what}, got shape {tuple(found.shape)}")
    if not found.isfinite().all():
        raise Wrong(f"got NaN or an infinite value for {what}")
    return float(found)


def parts(value: Any, names: str) -> list[Any]:
    """The parts of an answer that is a tuple, for example ``parts(value, "(dz, da)")``.

    Raises:
        NotImplementedError: if it, or a part of it, is ``None`` or ``...``.
        Wrong: if it is no tuple or list, or has another length.
    """
    if value is None or value is ...:
        raise NotImplementedError
    count = names.count(",") + 1
    if not isinstance(value, (tuple, list)):
        raise Wrong(f"expected {count} results {names}, got {_kind(value)}")
    if len(value) != count:
        raise Wrong(f"expected {count} results {names}, got {len(value)}")
    if any(part is None or part is ... for part in value):
        raise NotImplementedError
    return list(value)


def close(got: float, expected: float, mistakes: Mapping[str, float], *, tolerance: float, what: str) -> None:
    """Compare one number with the expected one, relative; name the mistake that explains it.

    Raises:
        Wrong: if it differs by more than ``tolerance``.
    """
    if abs(got - expected) <= tolerance * abs(expected):
        return
    for sentence, value in mistakes.items():
        if abs(value - expected) > 2 * tolerance * abs(expected) and abs(got - value) <= tolerance * abs(value):
            raise Wrong(sentence)
    if (places := rounded(torch.tensor(got).double(), torch.tensor(expected).double())) is not None:
        raise Wrong(f"the number is rounded to {places} places for {what}; return it as it is")
    raise Wrong(f"for {what}, expected {expected:.4g}, got {got:.4g}")


def random_statistics(module: Module) -> Module:
    """Give each batch normalization in a reference random scales, offsets and running statistics."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for t in (layer.weight.data, layer.bias.data, layer.running_mean):
                t.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return module


class Stopped(Wrong):
    """An answer stopped with an exception, its ``__cause__``."""


def _described(name: str, value: Any) -> str:
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        return f"{name} {'x'.join(map(str, value.shape))}"
    return f"{name} = {value}" if isinstance(value, (bool, int, float)) else ""


def _copy(value: Any) -> Any:
    return value if callable(value) else copy.deepcopy(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(b, Tensor):
        return isinstance(a, Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(b, Sequence) and not isinstance(b, str):
        return len(a) == len(b) and all(_same(p, q) for p, q in zip(a, b, strict=True))
    return callable(b) or a == b


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else f"a {type(value).__name__}"
