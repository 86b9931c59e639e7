"""The figure's arithmetic in JavaScript against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

KINDS = ["batch", "layer", "instance", "group"]


def by_torch(x: torch.Tensor, kind: str, per_group: int) -> torch.Tensor:
    """The same normalization by torch, for (B, C, N)."""
    if kind == "batch":
        return F.batch_norm(x, None, None, training=True)
    groups = {"layer": 1, "instance": x.shape[1], "group": x.shape[1] // per_group}[kind]
    return F.group_norm(x, groups)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "per_group"), [((4, 6, 9), 2), ((4, 6, 9), 3), ((1, 4, 5), 2), ((3, 1, 8), 1)])
def test_normalize_equals_torch(js: Callable, kind: str, shape: tuple, per_group: int) -> None:
    x = 3 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    got = js("batch_norm")("normalize", x.flatten().tolist(), list(shape), kind, per_group)
    ours = torch.tensor(got, dtype=torch.float64)
    torch.testing.assert_close(ours.view(shape), by_torch(x, kind, per_group), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_means_are_counted_as_classes_of_shares(js: Callable[[str], Callable[..., Any]], kind: str) -> None:
    call = js("batch_norm")
    tiles = [[b, c] for b in range(3) for c in range(4)]
    first = [[call("shares", kind, 2, a, b) for b in tiles].index(True) for a in tiles]
    assert call("countMeans", kind, 3, 4, 2) == len(set(first))


def test_statistics_of_a_channel(js: Callable) -> None:
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = js("batch_norm")("statistics", x.flatten().tolist(), [3, 4, 5], "batch", 2, [0, 2])
    assert got["count"] == 15
    assert got["mean"] == pytest.approx(x[:, 2].mean().item())
    assert got["variance"] == pytest.approx(x[:, 2].var(correction=0).item())


def test_the_readout_tells_what_normalization_did_to_the_chosen_map(browser: Any) -> None:
    from cvbook.figures import Figure

    maps = 3 * torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)) + 1
    state = {"kind": "layer", "perGroup": 2, "normalized": False, "image": 1, "channel": 2}
    figure = Figure("batch_norm", "Feature maps of three images in four channels.", maps=maps, **state)
    page = browser.new_page()
    page.set_content(f"<html><body>{figure._repr_html_()}</body></html>")
    assert "After normalization" not in page.inner_text(".cv-readout")
    page.check("input[data-key=normalized]")
    expected = F.layer_norm(maps, maps.shape[1:])[1, 2]
    words = f"the chosen map alone {expected.mean():.2f} and {expected.std(correction=0):.2f}."
    assert words.replace("-0.00", "0.00") in page.inner_text(".cv-readout")
    page.close()
