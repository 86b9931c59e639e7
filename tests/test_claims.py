"""A claim holds, fails, or is only shown at the larger scale."""

from __future__ import annotations

import pytest

from cvbook.claims import claim


def test_a_value_in_the_band_renders_one_line_with_the_band() -> None:
    made = claim("test accuracy", 83.456, 81, 86, unit=" %")
    assert str(made) == "test accuracy: 83.5 % (stated: 81 to 86 %)"
    assert made._repr_html_().count("<div") == 1
    assert "✓" in made._repr_html_()


def test_markup_in_the_text_is_escaped() -> None:
    assert "<b>" not in claim("<b>", 1, 1, 1)._repr_html_()


@pytest.mark.parametrize("value", [80.9, 86.1, float("nan")])
def test_a_value_outside_the_band_stops_the_notebook(value: float) -> None:
    with pytest.raises(AssertionError, match="the book states 81 to 86"):
        claim("test accuracy", value, 81, 86)


def test_large_numbers_are_grouped() -> None:
    assert "100\u202f352" in str(claim("weights", 100352, 100352, 100352))


def test_at_gpu_scale_the_number_is_shown_but_not_asserted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBOOK_SCALE", "gpu")
    made = claim("test accuracy", 93, 81, 86)
    assert not made.held
    assert "at laptop scale" in repr(made)
    assert "✓" not in made._repr_html_()


def test_a_band_that_is_upside_down_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected low <= high"):
        claim("x", 1, 2, 1)


def test_infinite_bands_and_values_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(claim("speed-up", 3, 2, float("inf"))) == "speed-up: 3 (stated: 2 to inf)"
    monkeypatch.setenv("CVBOOK_SCALE", "gpu")
    for value in (float("inf"), float("nan")):
        assert f"speed-up: {value} " in repr(claim("speed-up", value, 1, 2))


def test_a_band_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="got nan and 2"):
        claim("x", 1, float("nan"), 2)
