"""Judge answers that are computed for many settings at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cvbook.checks.verdict import Wrong

__all__ = ["Case", "compare", "numbers"]

Case = tuple[int, ...]


def numbers(
    answer: Callable[..., object],
    right: Callable[..., int],
    cases: list[Case],
    names: str,
    mistakes: dict[str, Callable[..., float]],
) -> None:
    """Judge a function that gives one number for each setting; ``names`` is a format for the settings."""
    got = []
    for case in cases:
        value = answer(*case)
        if value is None or value is ...:
            raise NotImplementedError
        try:
            got.append(float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise Wrong(f"expected a number for {names.format(*case)}, got {value!r}") from None
    compare(got, [right(*case) for case in cases], cases, names, mistakes)


def compare(
    got: Sequence[object], expected: Sequence[object], cases: list[Case], names: str, mistakes: dict[str, Callable]
) -> None:
    """Name the known mistake that explains every answer, else show the first case that differs."""
    if list(got) == list(expected):
        return
    for sentence, compute in mistakes.items():
        if [compute(*case) for case in cases] == list(got):
            raise Wrong(sentence)
    case, was, wanted = next((c, g, e) for c, g, e in zip(cases, got, expected, strict=True) if g != e)
    shown = f"{was:g}" if isinstance(was, float) else was
    raise Wrong(f"for {names.format(*case)}, expected {wanted}, got {shown}")
