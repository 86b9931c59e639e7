"""Static figures: rendered, closed, described."""

from __future__ import annotations

import io

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from cvbook import viz

ALT = "Grid of random images; it shows that drawing works at all."


@pytest.fixture(autouse=True)
def _restore_style() -> None:
    with mpl.rc_context():
        yield


def _pixels(picture: viz.Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.webp)).convert("RGB"))


def test_show_closes_the_figure_and_keeps_the_alt_text() -> None:
    viz.style()
    figure, ax = plt.subplots()
    ax.plot([0, 1], [1, 0])
    picture = viz.show(figure, 'Line chart <falling> from "1" to 0, as a test of alt text.')
    assert not plt.get_fignums()
    page = picture._repr_html_()
    assert "&lt;falling&gt;" in page
    assert "&quot;1&quot;" in page
    assert repr(picture).startswith("[figure: Line chart")
    assert picture.width / picture.height == pytest.approx(_pixels(picture).shape[1] / _pixels(picture).shape[0], 0.01)


def test_show_wants_a_real_description() -> None:
    figure, _ = plt.subplots()
    with pytest.raises(ValueError, match="at least 40 characters"):
        viz.show(figure, "a plot")
    assert not plt.get_fignums()


def test_line_art_is_stored_exactly_and_photographs_small() -> None:
    torch.manual_seed(0)
    figure, ax = plt.subplots(figsize=(3, 3))
    ax.imshow(torch.rand(200, 200, 3).numpy())
    assert len(viz.show(figure, ALT).webp) < 200_000


def test_grids_have_the_asked_rows_and_accept_every_layout() -> None:
    batch = [torch.rand(8, 8), torch.rand(1, 8, 8), torch.rand(3, 8, 8), np.random.rand(8, 8), torch.rand(8, 8)]
    picture = viz.images(batch, ALT, titles=list("abcde"), columns=2)
    assert picture.height > picture.width  # three rows of two
    assert viz.images(batch[:2], ALT).width > viz.images(batch[:1], ALT).width


def test_symmetric_maps_draw_zero_white_and_signs_in_two_colors() -> None:
    signed = torch.zeros(3, 3)
    signed[0, 0], signed[2, 2] = 2.0, -1.0
    pixels = _pixels(viz.images([signed], ALT, symmetric=True)).reshape(-1, 3).astype(int)
    red, blue = (pixels[:, 0] - pixels[:, 2]) > 60, (pixels[:, 2] - pixels[:, 0]) > 60
    assert red.any()
    assert blue.any()
    viz.images([torch.zeros(3, 3)], ALT, symmetric=True)  # all zero is fine too


def test_kernels_and_arrows_write_their_numbers() -> None:
    figure, ax = plt.subplots()
    viz.kernel(ax, torch.tensor([[1.0, -2.0], [0.0, 0.5]]), title="k")
    viz.arrow(ax, (0, 0), (1, 1), "here")
    texts = {t.get_text() for t in ax.texts}
    assert {"1", "-2", "0", "0.5", "here"} <= texts
    plt.close(figure)


def test_batches_are_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3, 8, 8\); pick one of the batch"):
        viz.images([torch.rand(2, 3, 8, 8)], ALT)


@pytest.mark.parametrize(
    ("batch", "settings", "message"),
    [
        ([], {}, "at least one image, got none"),
        ([torch.rand(2, 2)] * 3, {"titles": ["a", "b"]}, "one title for each image, got 2 for 3"),
        ([torch.rand(2, 2)], {"titles": []}, "got 0 for 1"),
        ([torch.rand(2, 2)], {"columns": 0}, "columns and size above zero"),
        ([torch.rand(2, 2)], {"size": 0}, "columns and size above zero"),
        ([torch.rand(0, 2)], {}, "at least one pixel"),
        (["cat"], {}, "an image of numbers, got str"),
    ],
)
def test_grids_that_cannot_be_drawn_are_named(batch: list, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viz.images(batch, ALT, **settings)
    assert not plt.get_fignums()


@pytest.mark.parametrize("settings", [{"columns": 1.5}, {"columns": "2"}, {"size": "big"}, {"size": (1, 2)}])
def test_sizes_of_other_kinds_are_named(settings: dict) -> None:
    with pytest.raises(TypeError, match="expected (columns|size) as a"):
        viz.images([torch.rand(2, 2)], ALT, **settings)


def test_what_cannot_be_shown_leaves_no_open_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at least 40 characters"):
        viz.images([torch.rand(2, 2)], "too short")
    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match="at least 40 characters"):
        viz.show(figure, None)  # type: ignore[arg-type]
    assert not plt.get_fignums()
    with pytest.raises(TypeError, match="got Axes; of axes use ax.figure"):
        viz.show(ax, ALT)  # type: ignore[arg-type]


def test_a_kernel_with_channels_is_refused() -> None:
    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"pick one: weights\[0\]"):
        viz.kernel(ax, torch.rand(3, 3, 3))
    plt.close(figure)
