"""What a check answers: passed, not attempted, or wrong and why."""

from __future__ import annotations

import functools
import html
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cvbook._arguments import number

__all__ = ["Missing", "Verdict", "Wrong", "equal", "exercise", "finite", "mapping", "rounded"]

EMPTY = "nothing to check yet; write your answer and run the cell again"
NONE = 'your function returned None: write your answer, or did you forget "return"?'


class Wrong(Exception):
    """Raised by a check; its message tells the reader what is wrong and where to look."""


class Missing(NotImplementedError):
    """Raised by a check when a part of the answer is not there yet; its message says which."""


class _OneLine(Exception):
    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


class NotAttempted(_OneLine, NotImplementedError):
    """Raised by `Verdict.require` for an empty answer."""


class Failed(_OneLine, AssertionError):
    """Raised by `Verdict.require` for a wrong answer."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check. ``state`` is ``"passed"``, ``"wrong"`` or ``"not attempted"``."""

    exercise: str
    state: str
    message: str

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.state == "passed"

    def require(self) -> Verdict:
        """Return the verdict if it passed, else raise: homework cells end with this, so that a grader sees it.

        Raises:
            NotAttempted: a ``NotImplementedError``, if nothing was attempted.
            Failed: an ``AssertionError``, if the answer is wrong. IPython shows both as one line.
        """
        if self.state == "not attempted":
            raise NotAttempted(f"… not attempted. {self.exercise}: {self.message}")
        if not self.passed:
            raise Failed(repr(self))
        return self

    def __repr__(self) -> str:
        mark = {"passed": "✓", "wrong": "✗", "not attempted": "…"}[self.state]
        return f"{mark} {self.exercise}: {self.message}"

    def _repr_html_(self) -> str:
        kind = self.state.replace(" ", "-")
        return f'<div class="cv-verdict cv-{kind}" role="status">{html.escape(repr(self))}</div>'


def exercise(name: str) -> Callable[[Callable[..., str | None]], Callable[..., Verdict]]:
    """Turn a function that raises `Wrong` into a check that returns a `Verdict`.

    An answer that raises a ``NotImplementedError`` without a message, or returns ``None`` or ``...``, counts as not
    attempted; for ``None`` the message asks whether a ``return`` was forgotten. Any other exception of the answer is
    reported with its type and message. The function may return a sentence of praise.

    Args:
        name: the exercise as the reader knows it, for example ``"Output size"``; the check's attribute ``exercise``.
    """

    def decorate(check: Callable[..., str | None]) -> Callable[..., Verdict]:
        parts = list(inspect.signature(check).parameters)

        @functools.wraps(check)
        def run(*answers: Any, **settings: Any) -> Verdict:
            if empty := [part for part, answer in zip(parts, answers, strict=False) if answer is None or answer is ...]:
                message = EMPTY if len(empty) == len(answers) else f"still empty: {', '.join(empty)}"
                return Verdict(name, "not attempted", message)
            nothing: list[str] = []
            try:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    praise = check(*(_watched(answer, nothing) for answer in answers), **settings)
            except Wrong as wrong:
                return Verdict(name, "wrong", str(wrong))
            except Missing as missing:
                return Verdict(name, "not attempted", str(missing))
            except Exception as error:
                if isinstance(error, NotImplementedError) and not error.args:  # those of libraries say what they miss
                    return Verdict(name, "not attempted", NONE if nothing else EMPTY)
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                return Verdict(name, "wrong", f"your code stopped with {what}")
            return Verdict(name, "passed", praise or "right")

        run.exercise = name  # type: ignore[attr-defined]
        return run

    return decorate


def _watched(answer: Any, nothing: list[str]) -> Any:
    """A function that does what ``answer`` does and notes in ``nothing`` when it returns ``None``."""
    if not isinstance(answer, types.FunctionType):
        return answer

    @functools.wraps(answer)
    def call(*inputs: Any, **settings: Any) -> Any:
        value = answer(*inputs, **settings)
        if value is None:
            nothing.append(answer.__name__)
        return value

    if (there := getattr(answer, "under", None)) is not None:  # see `cvbook.checks.by_hand`
        call.under = lambda *rule: _watched(there(*rule), nothing)  # type: ignore[attr-defined]
    return call


def equal(answer: object, expected: torch.Tensor, *, mistakes: Mapping[str, object] | None = None, what: str) -> None:
    """Compare an answer with the expected tensor; if it equals the result of a known mistake, name that mistake.

    Args:
        answer: what the reader's code returned (a tensor, array, number or nested list).
        expected: the right result.
        mistakes: sentence -> what this mistake would give, or a function that computes it; one that fails is skipped.
        what: the input that was tried, for example ``"a 5x7 image and a 3x2 kernel"``.

    Raises:
        NotImplementedError: if the answer is ``None`` or ``...``.
        Wrong: if it is no tensor, has another shape, or other values.
    """
    if answer is None or answer is ...:
        raise NotImplementedError
    got = _tensor(answer)
    if got is None:
        raise Wrong(f"expected numbers for {what}, got {type(answer).__name__}")
    if _same(got, expected):
        return
    for sentence, result in (mistakes or {}).items():
        try:
            mistaken = _tensor(result() if callable(result) else result)
        except Exception:
            continue
        if mistaken is not None and not _same(mistaken, expected) and _same(got, mistaken):
            raise Wrong(sentence)
    if got.shape != expected.shape:
        raise Wrong(f"expected shape {tuple(expected.shape)} for {what}, got {tuple(got.shape)}")
    if not got.isfinite().all():
        raise Wrong(f"got NaN or infinite values for {what}")
    if not got.any() and expected.any():
        raise Wrong(f"everything is zero for {what}; the result is never written")
    if (places := rounded(got, expected)) is not None:
        raise Wrong(
            f"the numbers are rounded to {places} place{'s' if places > 1 else ''} for {what}; return them as they are"
        )
    index = tuple(int(i) for i in torch.unravel_index((got - expected).abs().argmax(), expected.shape))
    where = f" at index {index}" if index else ""
    a, b = expected[index].item(), got[index].item()
    digits = next((n for n in (4, 7) if f"{a:.{n}g}" != f"{b:.{n}g}"), 12)
    raise Wrong(f"for {what}, expected {a:.{digits}g}{where}, got {b:.{digits}g}")


def rounded(got: torch.Tensor, expected: torch.Tensor) -> int | None:
    """To how many places the expected numbers were rounded, if that is all that is wrong.

    >>> rounded(torch.tensor(1.83).double(), torch.tensor(1.8257).double())
    2
    """
    kept = (
        places
        for places in range(1, 7)
        if torch.allclose(got, expected.double().round(decimals=places), atol=1e-6, rtol=0)
    )
    return None if torch.equal(got, expected.double()) else next(kept, None)


def mapping(answer: object, keys: Iterable[object]) -> Mapping[Any, Any]:
    """The answer as a mapping in which every key has a value.

    Raises:
        Wrong: if it is none.
        NotImplementedError: if all values are ``None``, ``...`` or not there; a `Missing` with their names if some are.
    """
    keys = list(keys)
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary with the keys {', '.join(map(repr, keys))}, got {type(answer).__name__}")
    if empty := [key for key in keys if answer.get(key) is None or answer[key] is ...]:
        raise NotImplementedError if len(empty) == len(keys) else Missing(f"still empty: {', '.join(map(str, empty))}")
    return answer


def finite(value: Any, what: str) -> float:
    """One number of any kind as a float.

    Raises:
        NotImplementedError: if it is ``None`` or ``...``.
        Wrong: if it is no number (text is none), NaN or infinite.
    """
    if value is None or value is ...:
        raise NotImplementedError
    try:
        found = number(what, value)
    except TypeError:
        raise Wrong(f"expected a number for {what}, got {value!r:.60}") from None
    if not math.isfinite(found):
        raise Wrong(f"expected a finite number for {what}, got {found}")
    return found


def _tensor(value: object) -> torch.Tensor | None:
    try:
        tensor = torch.as_tensor(value).detach()
        return None if tensor.is_complex() else tensor.double()
    except (TypeError, ValueError, RuntimeError):
        return None


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b.double(), rtol=1e-4, atol=1e-5)
