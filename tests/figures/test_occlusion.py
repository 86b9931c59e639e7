"""The arithmetic of the occlusion figure against Python, and its pointer against the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cvbook.figures import Figure

Js = Callable[[str], Callable[..., Any]]
SIZE, PATCH, STRIDE = 224, 48, 16


@pytest.fixture(scope="module")
def covered() -> torch.Tensor:
    return torch.rand(3, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 4


def _packed(array: torch.Tensor) -> dict[str, Any]:
    return {"shape": list(array.shape), "data": array.flatten().tolist()}


@pytest.mark.parametrize("pixel", [0, 23, 31.9, 32.1, 100, 199, 224])
def test_nearest_place_is_the_one_whose_middle_is_nearest(js: Js, pixel: float) -> None:
    middles = torch.arange(0, SIZE - PATCH + 1, STRIDE) + PATCH / 2
    assert js("occlusion")("nearest", pixel, PATCH, STRIDE, len(middles)) == int((middles - pixel).abs().argmin())


def test_probabilities_under_the_patch_and_their_sum(js: Js, covered: torch.Tensor) -> None:
    got = js("occlusion")("under", _packed(covered), 2, 1)
    assert got == pytest.approx([*covered[2, 1].tolist(), covered[2, 1].sum().item()])


@pytest.mark.parametrize("k", [0, 2, 3])
def test_drops_equal_the_occlusion_map(js: Js, covered: torch.Tensor, k: int) -> None:
    whole = torch.tensor([0.4, 0.3, 0.1], dtype=torch.float64)
    expected = whole[k] - covered[..., k] if k < 3 else whole.sum() - covered.sum(-1)
    assert js("occlusion")("drops", whole.tolist(), _packed(covered), k) == pytest.approx(expected.flatten().tolist())


def test_colors_follow_sign_and_size(js: Js) -> None:
    tint = js("occlusion")
    assert tint("tint", 0.1, 0.2) == {"fill": "#d55e00", "opacity": 0.43}
    assert tint("tint", -0.2, 0.2) == {"fill": "#0072b2", "opacity": 0.85}
    assert tint("tint", 0, 0.2)["opacity"] == 0


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(0.5, 0.4, "−10.0"), (0.31, 0.3526, "+4.3"), (0.2, 0.2001, "±0"), (0.0, 1.0, "+100.0")],
)
def test_changes_in_points(js: Js, before: float, after: float, text: str) -> None:
    assert js("occlusion")("change", before, after) == text


def test_percent_has_one_decimal(js: Js) -> None:
    assert js("occlusion")("percent", 0.4137) == "41.4\N{NO-BREAK SPACE}%"


@pytest.fixture
def page(browser: Any) -> Any:
    rng = np.random.default_rng(0)
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    photographs = {
        name: {
            "label": name,
            "source": pixel,
            "names": [f"{name} {i}" for i in range(3)],
            "whole": [0.4, 0.3, 0.2],
            "covered": rng.random((12, 12, 3)) / 3,
            "start": [4, 5] if name == "cat" else [7, 2],
        }
        for name in ("cat", "coffee")
    }
    figure = Figure(
        "occlusion",
        "A photograph under a patch, and bars of the answers that were measured.",
        geometry={"size": SIZE, "patch": PATCH, "stride": STRIDE},
        photographs=photographs,
    )
    page = browser.new_page(viewport={"width": 900, "height": 900})
    page.set_content(figure._repr_html_())
    yield page
    page.close()


def _place(page: Any) -> tuple[int, int]:
    cover = page.locator("[data-cv-drag]")
    return int(cover.get_attribute("y")) // STRIDE, int(cover.get_attribute("x")) // STRIDE


def test_the_patch_follows_pointer_and_keys_and_returns(page: Any) -> None:
    assert _place(page) == (4, 5)
    assert page.get_by_role("button", name="Reset").is_disabled()
    box = page.locator("svg image").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + box["height"] - 1)
    assert _place(page) == (11, 0)
    page.locator("[data-cv-drag]").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert _place(page) == (10, 2)
    page.mouse.move(5, 5)
    page.get_by_role("button", name="Reset").click()
    assert _place(page) == (4, 5)


def test_the_heat_map_has_a_cell_for_each_place_and_a_scale(page: Any) -> None:
    cells = page.locator("figure svg").first.locator("g rect")
    assert cells.count() == 0
    page.locator("[data-key=heat]").check()
    assert cells.count() == 144
    assert page.locator("svg text", has_text="rises").is_visible()
    before = page.locator(".cv-picture").inner_html()
    page.locator("[data-key=shown]").select_option("3")
    assert page.locator(".cv-picture").inner_html() != before
    page.locator("[data-key=photo]").select_option("coffee")
    assert page.locator("svg text", has_text="coffee 0").is_visible()
    assert _place(page) == (7, 2)
