"""The arithmetic of the figure ``depthwise_cost`` against torch and Python, and the figure itself in a browser."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from cvbook import summary
from cvbook.cnns import mobilenet_v1, resnext50_32x4d
from cvbook.figures import Figure
from cvbook.recipes import what_came_next as recipe

Call = Callable[..., Any]
ALT = "Bars of multiply-adds, parameters and time for a dense, a grouped and a separable convolution."
CASES = [
    {"k": 3, "m": 32, "n": 64, "side": 14, "groups": 2},
    {"k": 5, "m": 64, "n": 32, "side": 7, "groups": 16},
    {"k": 7, "m": 8, "n": 24, "side": 12, "groups": 4},
]


def table() -> torch.Tensor:
    """Every entry another number, so that a wrong index shows."""
    shape = (len(recipe.KERNELS), len(recipe.CHANNELS), len(recipe.SIDES), len(recipe.KINDS))
    return torch.arange(1.0, 1 + torch.tensor(shape).prod()).view(shape)


def packed() -> dict[str, Any]:
    return {"shape": list(table().shape), "data": table().flatten().tolist()}


@pytest.mark.parametrize("layer", CASES)
def test_costs_are_those_that_torch_counts(js: Callable[[str], Call], layer: dict[str, int]) -> None:
    k, m, n, side = (layer[key] for key in ("k", "m", "n", "side"))
    modules = {
        "dense": nn.Conv2d(m, n, k, padding=k // 2, bias=False),
        "grouped": nn.Conv2d(m, n, k, padding=k // 2, groups=layer["groups"], bias=False),
        "depthwise": nn.Conv2d(m, m, k, padding=k // 2, groups=m, bias=False),
        "pointwise": nn.Conv2d(m, n, 1, bias=False),
    }
    modules["separable"] = nn.Sequential(modules["depthwise"], modules["pointwise"])
    found = js("depthwise_cost")("cost", layer)
    for name, module in modules.items():
        expected = summary(module, (m, side, side))
        assert found[name] == {"parameters": expected.parameters, "multiplyAdds": expected.multiply_adds}
    ratio = js("depthwise_cost")("ratio", k, n)
    assert ratio["sum"] == pytest.approx(found["separable"]["multiplyAdds"] / found["dense"]["multiplyAdds"])
    assert ratio["depthwise"] == pytest.approx(found["depthwise"]["parameters"] / found["dense"]["parameters"])


def test_groups_that_do_not_divide_have_no_cost(js: Callable[[str], Call]) -> None:
    assert js("depthwise_cost")("cost", {"k": 3, "m": 8, "n": 32, "side": 7, "groups": 32})["grouped"] is None


def test_multipliers_thin_channels_and_shrink_the_map(js: Callable[[str], Call]) -> None:
    layer = {"k": 3, "m": 64, "n": 128, "side": 28, "groups": 4}
    got = js("depthwise_cost")("scaled", layer, 0.25, 5)
    assert got == {"k": 3, "m": 16, "n": 32, "side": 20, "groups": 4}
    assert js("depthwise_cost")("scaled", layer, 1, 7) == layer


def test_the_table_is_read_where_the_recipe_wrote_it(js: Callable[[str], Call]) -> None:
    call, times = js("depthwise_cost"), table()
    where = product(enumerate(recipe.KERNELS), enumerate(recipe.CHANNELS), enumerate(recipe.SIDES))
    for number, ((i, k), (j, channels), (s, side)) in enumerate(where):
        if number % 7:
            continue
        got = call("measured", packed(), {"k": k, "m": channels, "n": channels, "side": side, "groups": 8})
        row = dict(zip(recipe.KINDS, times[i, j, s].tolist(), strict=True))
        assert (got["k"], got["channels"], got["side"]) == (k, channels, side)
        assert (got["dense"], got["depthwise"], got["pointwise"]) == (row["dense"], row["depthwise"], row["pointwise"])
        assert got["grouped"] == row["groups 8"]
        assert got["separable"] == row["depthwise"] + row["pointwise"]


def test_axes_are_those_of_the_recipe() -> None:
    code = Figure("depthwise_cost", ALT, times=table()).code
    for name in ("KERNELS", "CHANNELS", "SIDES", "KINDS"):
        assert f"{name} = {list(getattr(recipe, name))}".replace("'", '"') in code


@pytest.mark.parametrize(("value", "index"), [(32, 0), (8, 0), (45, 0), (46, 1), (1000, 4), (256, 3)])
def test_nearest_is_nearest_by_ratio(js: Callable[[str], Call], value: float, index: int) -> None:
    assert js("depthwise_cost")("nearest", list(recipe.CHANNELS), value) == index


@pytest.mark.parametrize(
    ("x", "words"), [(462422016, "462 M"), (999, "999"), (2359296, "2.36 M"), (1.2e9, "1.20 G"), (288, "288"), (0, "0")]
)
def test_counts_in_words(js: Callable[[str], Call], x: float, words: str) -> None:
    assert js("depthwise_cost")("count", x) == words


def test_sentence(js: Callable[[str], Call]) -> None:
    whole = {"k": 3, "m": 512, "n": 512, "side": 14, "groups": 32}
    thin = {**whole, "m": 256, "n": 256}
    times = {"dense": 4.0, "separable": 2.0, "exact": True}
    said = js("depthwise_cost")("sentence", whole, whole, times, times)
    assert "0.0020 + 0.1111 = 0.113" in said
    assert "8.8 times fewer multiply-adds" in said
    assert said.endswith("Measured: 2.0 times as fast.")
    said = js("depthwise_cost")("sentence", thin, whole, {**times, "dense": 1.0}, times)
    assert "Measured: 0.5 times as fast." in said
    assert "35 times fewer multiply-adds, measured 2.0 times as fast." in said


def test_what_was_not_timed_is_not_called_measured(js: Callable[[str], Call]) -> None:
    whole = {"k": 3, "m": 512, "n": 512, "side": 14, "groups": 32}
    before = js("depthwise_cost")("measured", packed(), whole)
    assert before["exact"]
    for layer in ({**whole, "side": 10}, {**whole, "m": 384, "n": 384}, {**whole, "n": 1024}):
        found = js("depthwise_cost")("measured", packed(), layer)
        said = js("depthwise_cost")("sentence", layer, whole, found, before)
        assert not found["exact"]
        assert "Measured" not in said
        assert "not timed; the nearest that was, 3×3, 512 → 512 channels, map 14×14" in said
        assert "measured" not in said


def test_real_layers_are_those_of_the_networks(browser: Any, js: Callable[[str], Call]) -> None:
    def shapes(model: nn.Module, kind: Callable[[nn.Conv2d], bool]) -> set[tuple[int, int, int]]:
        table = summary(model, (3, 224, 224))
        found = ((row, model.get_submodule(row.name)) for row in table if row.kind == "Conv2d")
        return {(conv.in_channels, conv.out_channels, row.output_shape[-1]) for row, conv in found if kind(conv)}

    mobile = shapes(mobilenet_v1(), lambda conv: conv.kernel_size == (1, 1))
    assert {(512, 512, 14), (32, 64, 112)} <= mobile
    assert min(n for _, n, _ in mobile) == 64
    assert max(n for _, n, _ in mobile) == 1024
    assert {(128, 128, 56), (512, 512, 14)} <= shapes(resnext50_32x4d(), lambda conv: conv.groups == 32)


@pytest.fixture
def page(page: Any) -> Any:
    """The figure on a phone."""
    figure = Figure("depthwise_cost", ALT, times=table())
    page.set_content("<!doctype html><body style='margin:8px'>" + figure._repr_html_())
    page.wait_for_selector(".cv-picture rect")
    return page


def choose(page: Any, key: str, value: object) -> None:
    page.locator(f"[data-key={key}]").fill(str(value))


def test_it_fits_a_phone_in_every_corner(page: Any) -> None:
    for key in ("kernel", "inputs", "outputs", "side", "groups", "alpha", "rho"):
        control = page.locator(f"[data-key={key}]")
        for end in ("min", "max"):
            choose(page, key, control.get_attribute(end))
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            right = page.evaluate(
                "() => Math.max(...[...document.querySelectorAll('.cv-picture svg')].flatMap((s) => "
                "[...s.querySelectorAll('text')].map((t) => t.getBBox().x + t.getBBox().width)))"
            )
            assert right <= 342


def test_resolution_moves_no_parameter(page: Any) -> None:
    labels = "() => [...document.querySelectorAll('.cv-picture svg')].map((s) => s.getAttribute('aria-label'))"
    before = page.evaluate(labels)
    choose(page, "rho", 4)
    after = page.evaluate(labels)
    assert before[1] == after[1]
    assert before[0] != after[0]


def test_a_real_layer_sets_the_sliders_and_a_slider_makes_it_your_own(page: Any) -> None:
    layers = page.locator("[data-key=layer]")
    layers.select_option("ResNeXt-50, stage 1")
    assert "128 → 128 channels, map 56×56" in page.inner_text(".cv-readout")
    assert layers.input_value() == "ResNeXt-50, stage 1"
    choose(page, "inputs", 6)
    assert "64 → 128" in page.inner_text(".cv-readout")
    assert layers.input_value() == "your own"


def test_a_real_layer_comes_without_multipliers_and_reset_returns(page: Any) -> None:
    reset = page.get_by_role("button", name="Reset")
    assert reset.is_disabled()
    choose(page, "alpha", 0.5)
    page.locator("[data-key=layer]").select_option("MobileNet, first")
    assert page.locator("[data-key=alpha]").input_value() == "1"
    assert "does not divide" not in page.inner_text(".cv-picture")
    reset.click()
    assert "512 → 512 channels, map 14×14" in page.inner_text(".cv-readout")
    assert reset.is_disabled()


def test_the_frame_is_that_of_its_kernel(page: Any) -> None:
    assert "MobileNet’s layers" in page.inner_text(".cv-picture")
    choose(page, "kernel", 5)
    assert "MobileNet’s layers" not in page.inner_text(".cv-picture")


def test_groups_that_do_not_divide_are_said_so(page: Any) -> None:
    choose(page, "inputs", 5)
    choose(page, "alpha", 0.25)
    assert "does not divide" in page.inner_text(".cv-picture")
