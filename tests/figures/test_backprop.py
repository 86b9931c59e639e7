"""The arithmetic of the figure ``backprop`` against `Value`, and the figure itself in a browser."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from cvbook.figures import Figure
from cvbook.neuron.autograd import Value

ALT = "The graph of an expression, filled with values forward and with gradients backward, step by step."


def reuse(a: Value, b: Value) -> dict[str, Value]:
    u = a * b
    return {"a": a, "b": b, "u": u, "f": u + a}


def neuron(w: Value, x: Value, b: Value) -> dict[str, Value]:
    u = w * x
    z = u + b
    return {"w": w, "x": x, "b": b, "u": u, "z": z, "f": z.tanh()}


def diamond(a: Value, b: Value) -> dict[str, Value]:
    u = a + b
    v = u * b
    return {"a": a, "b": b, "u": u, "v": v, "f": v + u}


EXPRESSIONS: dict[str, tuple[str, Callable[..., dict[str, Value]]]] = {
    "reuse": ("ab", reuse),
    "neuron": ("wxb", neuron),
    "diamond": ("ab", diamond),
}


def cases(names: str) -> list[dict[str, float]]:
    choose = random.Random(0)
    drawn = [{name: round(choose.uniform(-4, 4), 2) for name in names} for _ in range(8)]
    return [*drawn, dict.fromkeys(names, 0.0), dict.fromkeys(names, -4.0)]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_values_and_gradients_are_those_of_value(js: Callable[[str], Callable[..., Any]], name: str) -> None:
    names, build = EXPRESSIONS[name]
    for leaves in cases(names):
        nodes = build(**{key: Value(x) for key, x in leaves.items()})
        nodes["f"].backward()
        last = js("backprop")("trace", name, leaves, False)["steps"][-1]
        assert last["values"] == pytest.approx({key: node.data for key, node in nodes.items()}, rel=1e-12, abs=1e-12)
        assert last["grads"] == pytest.approx({key: node.grad for key, node in nodes.items()}, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_edges_carry_the_slopes_of_value(js: Callable[[str], Callable[..., Any]], name: str) -> None:
    names, build = EXPRESSIONS[name]
    leaves = cases(names)[0]
    nodes = build(**{key: Value(x) for key, x in leaves.items()})
    slopes = js("backprop")("trace", name, leaves, False)["slopes"]
    for key, found in slopes.items():
        assert found == pytest.approx([slope for _, slope in nodes[key].edges])
    assert sorted(slopes) == sorted(key for key, node in nodes.items() if node.edges)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_bug_keeps_the_last_share_only(js: Callable[[str], Callable[..., Any]], name: str) -> None:
    names, build = EXPRESSIONS[name]
    for leaves in cases(names)[:3]:
        nodes = build(**{key: Value(x) for key, x in leaves.items()})
        nodes["f"].grad = 1.0
        for node in reversed(nodes.values()):
            for operand, slope in node.edges:
                operand.grad = slope * node.grad
        buggy = js("backprop")("trace", name, leaves, True)["steps"][-1]["grads"]
        right = js("backprop")("trace", name, leaves, False)["steps"][-1]["grads"]
        assert buggy == pytest.approx({key: node.grad for key, node in nodes.items()})
        assert (buggy == right) == (name == "neuron")  # a tree hides the bug


def test_each_step_does_one_operation(js: Callable[[str], Callable[..., Any]]) -> None:
    steps = js("backprop")("trace", "reuse", {"a": 2, "b": 3}, False)["steps"]
    assert [(step["pass"], step.get("node")) for step in steps] == [
        ("start", None), ("forward", "u"), ("forward", "f"), ("seed", "f"), ("backward", "f"), ("backward", "u"),
    ]  # fmt: skip
    assert [step["grads"]["a"] for step in steps] == [0, 0, 0, 0, 1, 4]
    assert "u" not in steps[0]["values"]
    assert js("backprop")("uses", "reuse", "a") == 2


@pytest.mark.parametrize(("x", "text"), [(-2, "−2"), (0.41997, "0.42"), (-0.0001, "0"), (16, "16"), (1e-3, "0.001")])
def test_numbers_are_short(js: Callable[[str], Callable[..., Any]], x: float, text: str) -> None:
    assert js("backprop")("format", x) == text


def show(page: Any, **state: object) -> None:
    page.set_content("<!doctype html><body style='margin:8px'>" + Figure("backprop", ALT, **state)._repr_html_())
    page.wait_for_selector(".cv-picture svg")


def said(page: Any) -> str:
    return page.locator(".cv-readout").inner_text()


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name).click()


def test_stepping_forth_and_back(page: Any) -> None:
    show(page)
    assert page.get_by_role("button", name="Back").is_disabled()
    for step in range(1, 6):
        press(page, "Next")
        assert said(page).startswith(f"Step {step} of 5.")
    assert "Done: df/da = 4, df/db = 2." in said(page)
    assert page.get_by_role("button", name="Next").is_disabled()
    page.keyboard.press("Enter")  # the button keeps the focus and does nothing
    assert said(page).startswith("Step 5 of 5.")
    assert page.evaluate("document.activeElement.textContent") == "Next ▶"
    press(page, "Back")
    assert said(page).startswith("Step 4 of 5.")
    press(page, "Start")
    assert said(page).startswith("Step 0 of 5.")
    assert page.evaluate("document.activeElement.textContent") == "Start"


def test_the_bug_is_named_with_the_right_number(page: Any) -> None:
    show(page, step=5)
    page.locator("[data-key=assign]").check()
    assert "Wrong: a.grad is 3, right is 4." in said(page)
    page.locator("[data-key=graph]").select_option("neuron")
    press(page, "End")
    assert "Done:" in said(page)  # nothing is used twice
    page.locator("[data-key=graph]").select_option("diamond")
    press(page, "End")
    assert "b.grad is 3, right is 9" in said(page)


def test_leaves_move_the_numbers(page: Any) -> None:
    show(page, step=5)
    page.locator("[data-key=b]").fill("-1")
    assert "df/da = 0, df/db = 2" in said(page)  # the step is kept
    assert not page.locator("[data-key=w]").is_visible()
    page.locator("[data-key=graph]").select_option("neuron")
    assert page.locator("[data-key=w]").is_visible()
    assert not page.locator("[data-key=a]").is_visible()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_it_fits_a_phone(page: Any, name: str) -> None:
    show(page, graph=name, step=99)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = page.evaluate(
        """() => { const frame = document.querySelector('.cv-picture svg').getBoundingClientRect();
        const boxes = [...document.querySelectorAll('.cv-picture svg text')].map((t) => t.getBoundingClientRect());
        return boxes.filter((b) => b.left < frame.left || b.right > frame.right || b.bottom > frame.bottom).length; }"""
    )
    assert outside == 0
