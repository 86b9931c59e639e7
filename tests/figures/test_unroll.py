"""The arithmetic of the figure ``unroll`` against Python, and the figure itself in a browser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cvbook.figures import Figure

ALT = "A chain of blocks that can be cut, its paths by length, and the accuracy of every way to cut it."


def counts(n: int = 9) -> torch.Tensor:
    """Made-up counts of 2 000 images that tell network, seed and subset apart."""
    return torch.arange(4 * 2**n, dtype=torch.int32).view(2, 2, 2**n) % 2000


@pytest.mark.parametrize("n", [1, 4, 9])
def test_paths_are_counted_by_going_through_them(js: Callable[[str], Callable[..., Any]], n: int) -> None:
    call = js("unroll")
    generator = torch.Generator().manual_seed(n)
    for _ in range(4):
        kept = torch.randint(2, (n,), generator=generator).tolist()
        expected = [0] * (n + 1)
        for path in itertools.product((0, 1), repeat=n):  # 1: through the block
            if all(k or not p for k, p in zip(kept, path, strict=True)):
                expected[sum(path)] += 1
        index = call("indexOf", kept)
        assert index == sum(k << i for i, k in enumerate(kept))
        assert call("alivePerLength", n, index) == expected
        assert expected == [math.comb(sum(kept), k) for k in range(n + 1)]


def test_accuracy_reads_the_right_number(js: Callable[[str], Callable[..., Any]]) -> None:
    table = counts()
    packed = {"shape": list(table.shape), "data": table.flatten().tolist()}
    for kind, seed, index in [(0, 0, 0), (0, 1, 511), (1, 0, 3), (1, 1, 256)]:
        expected = 100 * table[kind, seed, index].item() / 2000
        assert js("unroll")("accuracy", packed, kind, seed, index, 2000) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([1, 1, 1], "No block is cut: 8 of 8 paths are left"),
        ([1, 0, 1], "Block 2 is cut: 4 of 8 paths are left"),
        ([0, 1, 0], "Blocks 1 and 3 are cut: 2 of 8 paths are left"),
        ([0, 0, 1, 0], "Blocks 1, 2 and 4 are cut: 2 of 16 paths are left"),
        ([0, 0, 0], "All blocks are cut: 1 of 8 paths is left"),
    ],
)
def test_sentences(js: Callable[[str], Callable[..., Any]], kept: list[int], words: str) -> None:
    said = js("unroll")("sentence", kept, 50.04, 10.0)
    assert said.startswith(words)
    assert "50.0 %" in said
    assert said.endswith("gets 10.0 %.")


def show(page: Any, **state: Any) -> None:
    figure = Figure("unroll", ALT, counts=counts(), tested=2000, **state)
    page.set_content("<!doctype html><body style='margin:8px'>" + figure._repr_html_())
    page.wait_for_selector(".cv-picture rect")


def test_a_block_is_cut_by_its_button_by_the_keyboard_and_in_the_picture(page: Any) -> None:
    show(page)
    said = page.locator(".cv-readout")
    assert said.inner_text().startswith("No block is cut: 512 of 512 paths")
    assert page.get_by_role("button", name="Put all back").is_disabled()
    page.get_by_role("button", name="Block 5", exact=True).click()
    assert said.inner_text().startswith("Block 5 is cut: 256 of 512 paths")
    page.get_by_role("button", name="Block 2", exact=True).click()
    assert said.inner_text().startswith("Blocks 2 and 5 are cut: 128 of 512 paths")
    page.get_by_role("button", name="Block 9", exact=True).focus()
    page.keyboard.press("Space")
    assert said.inner_text().startswith("Blocks 2, 5 and 9 are cut: 64 of 512 paths")
    page.locator(".cv-picture rect").nth(1).click()
    assert said.inner_text().startswith("Blocks 5 and 9 are cut")
    back = page.get_by_role("button", name="Put all back")
    back.click()
    assert said.inner_text().startswith("No block is cut: 512 of 512 paths")
    assert back.is_disabled()
    assert page.locator("button[aria-pressed=true]").count() == 9


def test_the_numbers_are_those_of_the_table(page: Any) -> None:
    show(page, kept=[1, 0, 1, 1, 1, 1, 0, 1, 1], seed=1)
    index = sum(1 << i for i in range(9) if i not in (1, 6))
    residual, plain = (100 * counts()[kind, 1, index].item() / 2000 for kind in (0, 1))
    said = page.locator(".cv-readout").inner_text()
    assert f"{residual:.1f} %" in said
    assert f"{plain:.1f} %" in said
    page.locator("select").select_option("0")
    assert page.locator(".cv-readout").inner_text() != said


def test_what_cuts_cost_is_hidden_until_as_many_are_tried(page: Any) -> None:
    """The lesson asks for a prediction: the dots must not answer it on opening."""
    show(page)
    dots = "() => [...document.querySelectorAll('.cv-picture svg')].at(-1).innerHTML.split('h.01').length - 1"
    assert page.evaluate(dots) == 2  # one for each network with all blocks
    page.get_by_role("button", name="Block 4", exact=True).click()
    assert page.evaluate(dots) == 2 * (1 + 9)
    page.get_by_role("button", name="Block 7", exact=True).click()
    page.get_by_role("button", name="Put all back").click()
    assert page.evaluate(dots) == 2 * (1 + 9 + 36)


def test_it_fits_a_phone_and_describes_itself(page: Any) -> None:
    show(page, kept=[1, 1, 1, 1, 0, 1, 1, 1, 1])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    labels = [svg.get_attribute("aria-label") for svg in page.locator(".cv-picture svg").all()]
    assert "Block 5 is cut" in labels[0]
    assert "8 of length 1" in labels[1]
    assert "all ways to cut up to 1 of 9 blocks" in labels[2]
