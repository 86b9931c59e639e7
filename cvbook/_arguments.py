"""Checks of arguments, shared by the package: each passes a value on, or says in one sentence what was expected."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable
from typing import Any, SupportsFloat, cast

__all__ = ["epsilon", "floating", "images", "number", "real", "tensor", "whole"]


def whole(name: str, value: object, hint: str = "use one int") -> int:
    """A whole number of any kind (int, NumPy, a tensor of one integer) as an int.

    Raises:
        TypeError: if it is none.

    >>> whole("size", 3)
    3
    """
    try:
        return operator.index(cast(Any, value))
    except TypeError:
        raise TypeError(f"expected {name} as a whole number, got {value!r:.60}; {hint}") from None


def number(name: str, value: object, hint: str = "use one float") -> float:
    """A number of any kind as a float.

    Raises:
        TypeError: if it is none; text is none either.

    >>> number("sigma", 1)
    1.0
    """
    if not isinstance(value, (str, bytes)):
        try:
            return float(cast(SupportsFloat, value))
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: torch's for a tensor of several
            pass
    raise TypeError(f"expected {name} as a number, got {value!r:.60}; {hint}")


def real(what: str, compute: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """Two real numbers, where Python's mathematics gives them.

    Raises:
        ValueError: if it raises one of its errors, or gives a complex number.

    >>> real("sqrt(4) and its slope", lambda: (math.sqrt(4), 0.5 / math.sqrt(4)))
    (2.0, 0.25)
    """
    with contextlib.suppress(ArithmeticError, ValueError):
        found = compute()
        if not any(isinstance(one, complex) for one in found):
            return found
    raise ValueError(f"expected a finite real number and slope, got {what}; keep its input where it has both")


def tensor(name: str, value: Any) -> Any:
    """A torch tensor, as it is.

    Raises:
        TypeError: if it is none.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        what = "a torch tensor" if name == "x" else f"{name} as a torch tensor"
        raise TypeError(f"expected {what}, got {type(value).__name__}; convert with torch.as_tensor")
    return value


def floating(name: str, value: Any) -> Any:
    """A tensor of floating-point numbers, as it is.

    Raises:
        TypeError: if it is none.
    """
    if not tensor(name, value).is_floating_point():
        which = "" if name == "x" else f"{name} with "
        raise TypeError(f"expected {which}floating-point numbers, got {value.dtype}; convert with {name}.float()")
    return value


def images(x: Any) -> Any:
    """The shape of a batch of images ``(B, C, H, W)``.

    Raises:
        TypeError: if ``x`` is no floating-point tensor.
        ValueError: if it has another number of axes.
    """
    floating("x", x)
    if x.ndim != 4:
        hint = {2: "x[None, None]", 3: "x[None]"}.get(x.ndim)
        hint = f"; add the missing axes: {hint}" if hint else ""
        raise ValueError(f"expected images (B, C, H, W), got {tuple(x.shape)}{hint}")
    return x.shape


def epsilon(eps: object) -> None:
    """Refuse what must not stand beside a variance under a root.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is negative, infinite or NaN.
    """
    if not 0 <= number("eps", eps) < math.inf:
        raise ValueError(f"expected eps >= 0, got {eps}; it keeps the root away from zero")
