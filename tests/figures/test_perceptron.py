"""The arithmetic of the perceptron figure against Python."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cvbook.figures import Figure
from cvbook.neuron.perceptron import corrections, predict

Js = Callable[[str], Callable[..., Any]]
CORNERS = list(itertools.product((0, 1), repeat=2))


def run(points: list, count: int) -> list[list[float]]:
    x = torch.tensor([p[:2] for p in points], dtype=torch.float64)
    y = torch.tensor([p[2] for p in points])
    return [[*w.tolist(), float(b), i] for w, b, i in itertools.islice(corrections(x, y), count)]


@pytest.mark.parametrize("labels", list(itertools.product((0, 1), repeat=4)))
def test_learning_equals_python(js: Js, labels: tuple[int, ...]) -> None:
    points = [[*x, y] for x, y in zip(CORNERS, labels, strict=True)]
    assert js("perceptron")("learn", points, 30) == run(points, 30)


def test_learning_equals_python_for_moved_points(js: Js) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        places = torch.randint(-2, 7, (8, 2), generator=generator) / 4
        labels = torch.randint(0, 2, (8, 1), generator=generator)
        points = torch.cat([places, labels], dim=1).tolist()
        assert js("perceptron")("learn", points, 60) == run(points, 60)


def test_the_free_set_can_be_learned_and_xor_goes_round_in_four(js: Js) -> None:
    call = js("perceptron")
    free = [[-0.25, 0.5, 0], [0, 1, 0], [0.25, 0, 0], [0.5, 0.5, 0], [0.25, 1.25, 1], [1, 0.25, 1], [0.75, 1, 1]]
    free.append([1.25, 0.75, 1])
    assert len(call("learn", free, 1000)) < 30
    xor = [[*x, y] for x, y in zip(CORNERS, (0, 1, 1, 0), strict=True)]
    states = [[0, 0, 0], *([*row[:3]] for row in call("learn", xor, 12))]
    assert [call("cycle", states[: n + 1]) for n in range(13)] == [0] * 7 + [4] * 6


def test_next_mistake_goes_round(js: Js) -> None:
    points = [[*x, y] for x, y in zip(CORNERS, (0, 1, 1, 0), strict=True)]
    assert [js("perceptron")("nextMistake", points, [0, 0, 0], start) for start in range(5)] == [0, 3, 3, 3, 0]
    assert js("perceptron")("nextMistake", points[:2], [0, 2, -1], 0) == -1


@pytest.mark.parametrize("weights", [[2, 1, -1], [-1, 3, 0.25], [0, 0, 1], [0, 0, -1], [0, -1, 5], [1, 0, -0.5]])
def test_region_is_where_the_neuron_answers_1(js: Js, weights: list[float]) -> None:
    polygon = js("perceptron")("region", weights, -1, 2)
    x = 3 * torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) - 1
    inside = torch.zeros(400, dtype=torch.bool)
    for (x1, y1), (x2, y2) in itertools.pairwise([*polygon, *polygon[:1]]):  # even-odd rule
        crosses = (x[:, 1] < y1) != (x[:, 1] < y2)
        if y1 != y2:
            inside ^= crosses & (x[:, 0] < x1 + (x[:, 1] - y1) / (y2 - y1) * (x2 - x1))
    assert torch.equal(inside, predict(x, torch.tensor(weights[:2], dtype=torch.float32), weights[2]))


def test_a_button_that_has_nothing_to_do_keeps_the_focus(browser: Any) -> None:
    page = browser.new_page()
    page.set_content(Figure("perceptron", "Four points and a neuron that learns to separate them.")._repr_html_())
    page.get_by_role("button", name="Correct the mistake").focus()
    for _ in range(14):  # three more than AND needs
        page.keyboard.press("Enter")
    assert page.locator(".cv-readout").inner_text().startswith("11 corrections. Every point is right")
    assert page.evaluate("document.activeElement.textContent") == "Correct the mistake"
    page.close()
