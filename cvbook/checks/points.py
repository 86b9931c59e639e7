"""The points of a homework notebook, one line for each graded cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvbook import submission
from cvbook.checks.verdict import EMPTY, Verdict

__all__ = ["Homework", "Part", "Solution", "grading", "points", "seeds"]

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
        untold = verdict.passed or verdict.message == EMPTY
        lines.append(name if untold else f"{name}: {message}")
    got = sum(worth for verdict, worth in verdicts if verdict.passed)
    states = [verdict.state for verdict, _ in verdicts]
    total = f"{got} of {sum(worth for _, worth in verdicts)} points"
    lines.append(f"{total} (checks wrong: {states.count('wrong')}, still empty: {states.count('not attempted')})")
    return "\n".join(lines)


_student: list[int] = []  # set by `grading`


def grading(student: int) -> None:
    """From now on `seeds` belong to one student; only a grader calls this."""
    _student[:] = [student]


def seeds(*usual: int) -> tuple[int, ...]:
    """Seeds for the hidden tests of a homework notebook: ``usual`` ones, but others for each student while grading.

    >>> seeds(1, 2)
    (1, 2)
    """
    return tuple(1000 * student + seed for student in _student for seed in usual) or usual


class Solution(str):
    """Code of ours, which a notebook shows in color."""

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"

    __repr__ = str.__str__


class Homework:
    """What a homework notebook asks besides its checks: where do I stand, what is your solution, what do I hand in?

    Args:
        name: of the assignment, for example ``"02_convolution"``.
        parts: its graded cells, in order.
        folder: where ``solutions.json`` is.
    """

    def __init__(self, name: str, parts: Sequence[Part], folder: Path) -> None:
        self.name, self.parts, self.folder = name, parts, folder
        self.answers = tuple(dict.fromkeys(answer for _, answer, _ in parts))  # the functions that students write

    def summary(self, answers: Mapping[str, Any]) -> str:
        """One line for each graded cell (passed, wrong or not attempted) and the points so far.

        Args:
            answers: name -> the reader's function; in a notebook, pass ``globals()``.
        """
        return points(self.parts, answers)

    def solution(self, answer: Callable[..., Any]) -> Solution | Verdict:
        """Our solution, for somebody who has tried.

        Args:
            answer: the reader's function.

        Returns:
            The code, or a verdict that says: not attempted.

        Raises:
            ValueError: if it is none of the notebook's functions.
        """
        name = getattr(answer, "__name__", f"{answer!r}; give the function itself, without quotes")
        checks = [check for check, checked, _ in self.parts if checked == name]
        if not checks:
            raise ValueError(f"expected one of the functions {', '.join(self.answers)}, got {name:.60}")
        if all(check(answer).message == EMPTY for check in checks):
            return Verdict(f"Solution of {name}", "not attempted", "write an attempt first, then ask again")
        return Solution(json.loads((self.folder / "solutions.json").read_text(encoding="utf-8"))[name])

    def submission(self, answers: Mapping[str, Any]) -> str:
        """Write the file to hand in, and say what is still empty; on Colab also download it.

        Args:
            answers: ``globals()`` of the notebook.
        """
        return submission.from_notebook(answers, self.answers, self.name)
