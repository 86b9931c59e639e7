"""Claims: a number that the prose states is measured again whenever the notebook runs."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from cvbook import scale

__all__ = ["Claim", "claim"]


@dataclass(frozen=True)
class Claim:
    """One measured number and the band that the prose states. Renders as one quiet line."""

    text: str
    value: float
    low: float
    high: float
    unit: str
    held: bool

    def __str__(self) -> str:
        measured = f"{_number(self.value)}{self.unit}"
        exact = self.low == self.high
        band = f"stated: {_number(self.low)}" if exact else f"stated: {_number(self.low)} to {_number(self.high)}"
        return f"{self.text}: {measured} ({band}{self.unit}{'' if self.held else ', at laptop scale'})"

    def __repr__(self) -> str:
        return f"Claim: {self}"

    def _repr_html_(self) -> str:
        mark = "✓" if self.held else "•"
        return f'<div class="cv-claim"><span aria-hidden="true">{mark}</span> {html.escape(str(self))}</div>'


def claim(text: str, value: float, low: float, high: float, *, unit: str = "") -> Claim:
    """Assert that a measured number lies in the band that the prose states.

    At the ``"gpu"`` scale, where data and schedules are larger, the number is shown but not asserted.

    Args:
        text: what was measured, in words.
        value: the measured number (anything ``float`` accepts).
        low, high: the band, both ends included; equal ends state an exact number.
        unit: printed after each number, for example ``" %"``.

    Returns:
        A `Claim`, which a notebook shows as one line.

    Raises:
        AssertionError: if the number lies outside the band (or is NaN).
        ValueError: if ``low > high`` or one is NaN.

    >>> print(claim("weights of a 3x3 kernel", 9, 9, 9))
    weights of a 3x3 kernel: 9 (stated: 9)
    """
    if not low <= high:
        raise ValueError(f"expected low <= high, got {low} and {high}; swap them or mend what is NaN")
    value = float(value)
    inside = low <= value <= high
    if not inside and scale() == "laptop":
        raise AssertionError(f"{text}: measured {value:.6g}{unit}, but the book states {low:g} to {high:g}{unit}")
    return Claim(text, value, low, high, unit, inside)


def _number(x: float) -> str:
    if math.isfinite(x) and x == int(x) and abs(x) < 1e15:
        return f"{int(x):,}".replace(",", "\u202f")  # narrow no-break space
    return f"{x:.3g}"
