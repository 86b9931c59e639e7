"""The points of a homework notebook, one line for each graded cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvbook.checks.verdict import Verdict

__all__ = ["Part", "points"]

Part = tuple[Callable[..., Verdict], str, int]  # the check, the name of the function it checks, its points


def points(parts: Sequence[Part], answers: Mapping[str, Any]) -> str:
    """One line for each part (passed, wrong or not attempted) and, last, the points so far.

    Args:
        parts: the graded cells of a notebook, in order.
        answers: name -> the reader's function; in a notebook, pass ``globals()``.

    >>> points([], {})
    '0 of 0 points (checks wrong: 0, still empty: 0)'
    """
    verdicts = [(check(answers.get(name)), worth) for check, name, worth in parts]
    lines = []
    for verdict, worth in verdicts:
        name, message = repr(verdict).split(": ", 1)
        name = f"{name} ({worth} point{'s' if worth > 1 else ''})"
        lines.append(f"{name}: {message}" if verdict.state == "wrong" else name)
    got = sum(worth for verdict, worth in verdicts if verdict.passed)
    states = [verdict.state for verdict, _ in verdicts]
    total = f"{got} of {sum(worth for _, worth in verdicts)} points"
    lines.append(f"{total} (checks wrong: {states.count('wrong')}, still empty: {states.count('not attempted')})")
    return "\n".join(lines)
