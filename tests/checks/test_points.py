"""What a homework notebook asks besides its checks."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from cvbook.checks import points

HOMEWORKS = [f"{name}_homework" for name in ("neuron", "convolution", "cnns")]


@pytest.fixture(params=HOMEWORKS)
def checks(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(f"cvbook.checks.{request.param}")


def test_a_solution_is_shown_after_an_attempt_only(checks: Any) -> None:
    for name in checks.homework.answers:

        def stub(*inputs: Any, **settings: Any) -> Any:
            raise NotImplementedError

        stub.__name__ = name
        verdict = checks.solution(stub)
        assert verdict.state == "not attempted"
        assert "write an attempt first" in verdict.message

        def wrong(*inputs: Any, **settings: Any) -> Any:
            return "no number"

        wrong.__name__ = name
        code = checks.solution(wrong)
        assert f"def {name}(" in code
        assert "### " not in code
        assert code._repr_markdown_().startswith("```python\n")


def test_a_function_of_another_notebook_gets_one_sentence(checks: Any) -> None:
    def other() -> None: ...

    with pytest.raises(ValueError, match="expected one of the functions .*, got other"):
        checks.solution(other)


def test_seeds_belong_to_a_student_while_grading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "_student", [])
    assert points.seeds(1, 2) == (1, 2)
    points.grading(7)
    ann = points.seeds(1, 2)
    points.grading(8)
    assert len({*ann, *points.seeds(1, 2), 1, 2}) == 6
