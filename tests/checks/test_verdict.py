"""Verdicts: what a check answers to right, wrong, empty and broken answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvbook.checks import Verdict, Wrong, equal, exercise
from cvbook.checks.verdict import EMPTY, Missing


@exercise("Double")
def doubled(answer, *, praise=None):
    """A check of a function or a value."""
    value = answer(2) if callable(answer) else answer
    if value is None:
        raise NotImplementedError
    if value != 4:
        raise Wrong(f"expected 4, got {value}")
    return praise


def test_a_right_answer_passes_with_or_without_praise() -> None:
    assert doubled(4) == Verdict("Double", "passed", "right")
    assert doubled(lambda x: 2 * x, praise="well done").message == "well done"
    verdict = doubled(4)
    assert verdict.passed
    assert verdict.require() is verdict
    assert repr(verdict) == "✓ Double: right"


def test_a_wrong_answer_says_why_and_fails_where_it_is_required() -> None:
    verdict = doubled(5)
    assert (verdict.state, verdict.message) == ("wrong", "expected 4, got 5")
    assert not verdict.passed
    with pytest.raises(AssertionError, match="Double: expected 4, got 5"):
        verdict.require()


def test_what_is_required_stops_a_notebook_with_one_line() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shown: list[object] = []
    shell = InteractiveShell()
    shell._showtraceback = lambda kind, error, lines: shown.append((kind.__name__, lines))
    for answer in (..., 5):
        try:
            doubled(answer).require()
        except (NotImplementedError, AssertionError):
            shell.showtraceback()
    assert shown == [
        ("NotAttempted", [f"… not attempted. Double: {EMPTY}"]),
        ("Failed", ["✗ Double: expected 4, got 5"]),
    ]


def stub(x):
    raise NotImplementedError


@pytest.mark.parametrize("empty", [None, ..., stub])
def test_what_is_empty_is_not_attempted_and_fails_where_it_is_required(empty: object) -> None:
    verdict = doubled(empty)
    assert verdict.state == "not attempted"
    assert repr(verdict).startswith("… Double: nothing to check yet")
    with pytest.raises(NotImplementedError, match="Double: nothing to check yet"):
        verdict.require()


def test_a_forgotten_return_is_named() -> None:
    def forgets(x):
        2 * x

    verdict = doubled(forgets)
    assert verdict.state == "not attempted"
    assert "returned None" in verdict.message
    assert 'forget "return"' in verdict.message


def test_a_check_can_say_what_is_missing() -> None:
    @exercise("Two words")
    def words(answer):
        raise Missing("still empty: the second word")

    assert words(["one", None]) == Verdict("Two words", "not attempted", "still empty: the second word")


def test_an_exception_of_the_answer_is_reported_in_one_line() -> None:
    def broken(x):
        raise IndexError("first line\nsecond line")

    assert doubled(broken).message == "your code stopped with IndexError: first line"


def test_a_verdict_is_shown_as_escaped_html_with_its_state() -> None:
    shown = doubled("<b>")._repr_html_()
    assert 'class="cv-verdict cv-wrong"' in shown
    assert "&lt;b&gt;" in shown
    assert "cv-not-attempted" in doubled(None)._repr_html_()


def test_a_check_leaves_the_random_numbers_alone_and_has_its_own() -> None:
    drawn = []

    @exercise("Draw")
    def draw(answer):
        drawn.append(torch.rand(3))

    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    draw(1)
    draw(1)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(drawn[0], drawn[1])


RIGHT = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("same", [RIGHT, RIGHT.numpy(), RIGHT.tolist(), RIGHT.double() + 1e-7])
def test_equal_accepts_tensors_arrays_lists_and_rounding(same: object) -> None:
    equal(same, RIGHT, what="an input")


def test_equal_names_the_mistake_that_gives_the_answer() -> None:
    def fails() -> object:
        raise RuntimeError("this mistake does not fit the input")

    mistakes = {
        "never": fails,
        "no numbers": lambda: "text",
        "no mistake here": lambda: RIGHT,
        "turned": lambda: RIGHT.T,
    }
    with pytest.raises(Wrong, match="^turned$"):
        equal(RIGHT.T, RIGHT, mistakes=mistakes, what="an input")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("text", "expected numbers for an input, got str"),
        (RIGHT[0], r"expected shape \(2, 2\) for an input, got \(2,\)"),
        (RIGHT * np.nan, "got NaN or infinite values for an input"),
        (RIGHT * 0, "everything is zero for an input"),
        (RIGHT + torch.tensor([[0, 0], [0, 9.0]]), r"for an input, expected 4 at index \(1, 1\), got 13"),
    ],
)
def test_equal_says_what_differs(answer: object, message: str) -> None:
    with pytest.raises(Wrong, match=message):
        equal(answer, RIGHT, what="an input")


def test_equal_compares_single_numbers_without_an_index() -> None:
    with pytest.raises(Wrong, match="for an input, expected 3, got 5$"):
        equal(5, torch.tensor(3.0), what="an input")


@pytest.mark.parametrize("empty", [None, ...])
def test_equal_takes_nothing_as_not_attempted(empty: object) -> None:
    with pytest.raises(NotImplementedError):
        equal(empty, RIGHT, what="an input")


def test_a_small_difference_is_shown_with_enough_digits() -> None:
    with pytest.raises(Wrong, match=r"expected 2\.2224, got 2\.2221$"):
        equal(2.2221, torch.tensor(2.2224, dtype=torch.float64), what="x")


def test_rounded_numbers_are_told_so() -> None:
    with pytest.raises(Wrong, match=r"rounded to 3 places for x"):
        equal(2.222, torch.tensor(2.2224, dtype=torch.float64), what="x")
    with pytest.raises(Wrong, match=r"rounded to 1 place for x"):
        equal([0.3, 1.0], torch.tensor([0.3333, 1.0]), what="x")
