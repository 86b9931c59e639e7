"""The arithmetic of the figure ``shapes`` against Python and torch, and the figure itself in a browser."""

import random

import pytest
import torch

from cvbook.convolution import output_size
from cvbook.convolution.direct import PADDING_MODES, pad
from cvbook.figures import Figure

ALT = "Explorer of stride, padding and dilation: a window moves over a grid of numbers."


def cases(count, seed=0):
    choose = random.Random(seed)
    for _ in range(count):
        yield tuple(choose.randint(*bounds) for bounds in [(4, 10), (1, 5), (1, 4), (0, 3), (1, 3)])


def python_size(n, k, s, p, d):
    try:
        return output_size(n, k, stride=s, padding=p, dilation=d)
    except ValueError:
        return 0


def test_sizes_and_unread_pixels(js):
    call = js("shapes")
    for n, k, s, p, d in [*cases(40), (4, 5, 1, 0, 3), (10, 1, 1, 3, 1), (6, 3, 2, 0, 1)]:
        m = python_size(n, k, s, p, d)
        assert call("outputSize", n, k, s, p, d) == m
        x = torch.zeros(1, 1, n + 2 * p, requires_grad=True)
        reached = torch.zeros(n + 2 * p, dtype=torch.bool)
        if m:  # the gradient of a sum of windows marks what they read
            out = torch.nn.functional.conv1d(x, torch.ones(1, 1, k), stride=s, dilation=d).sum()
            reached = torch.autograd.grad(out, x)[0][0, 0] > 0
        assert call("read", n, k, s, p, d) == reached.tolist()
        behind = n + 2 * p - (int(reached.nonzero().max()) + 1 if m else 0)
        assert call("leftover", n, k, s, p, d) == behind


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_source_pixels_are_those_of_padding(js, mode):
    call = js("shapes")
    for n, p in [(4, 3), (7, 2), (10, 3), (5, 0)]:
        border = pad(torch.arange(1.0, n + 1)[None, None], (0, p), mode)[0, 0]
        assert [call("sourcePixel", i, n, p, mode) for i in range(n + 2 * p)] == [int(x) - 1 for x in border]


@pytest.mark.parametrize(
    ("channels", "groups", "mode"),
    [(1, 1, "zeros"), (3, 1, "reflect"), (3, 3, "circular"), (4, 2, "replicate"), (4, 4, "zeros"), (2, 1, "zeros")],
)
def test_outputs_are_those_of_torch(js, channels, groups, mode):
    call = js("shapes")
    outputs = call("outputChannels", groups)
    for n, k, s, p, d in [(6, 3, 2, 1, 1), (7, 2, 1, 2, 3), (5, 1, 3, 0, 1), (9, 3, 1, 0, 2)]:
        state = {
            "n": n, "kernel": k, "stride": s, "padding": p, "dilation": d, "mode": mode, "channels": channels,
            "groups": groups,
        }  # fmt: skip
        whole = {**state, "kernel": n, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        x = torch.tensor([term[5] for term in call("terms", whole, 0, 0, 0)]).double()  # every pixel, once
        weight = torch.tensor([[term[6] for term in call("terms", state, o, 0, 0)] for o in range(outputs)]).double()
        layer = torch.nn.Conv2d(
            channels, outputs, k, s, p, d, groups, padding_mode=mode, bias=True, dtype=torch.float64
        )
        with torch.no_grad():
            layer.weight.copy_(weight.view_as(layer.weight))
            layer.bias.copy_(torch.tensor([call("biasValue", o) for o in range(outputs)]))
            y = layer(x.view(1, channels, n, n))[0]
        assert call("parameters", state) == sum(w.numel() for w in layer.parameters())
        last = y.shape[-1] - 1
        for o, i, j in {(0, 0, 0), (outputs - 1, 0, last), (outputs - 1, last, last), (0, last // 2, last // 2)}:
            assert call("outputValue", state, o, i, j) == y[o, i, j].item()


def test_kernels_are_not_symmetric(js):
    call = js("shapes")
    kernel = torch.tensor([[call("weightValue", 0, 0, u, v) for v in range(3)] for u in range(3)])
    assert not torch.equal(kernel, kernel.flip(0, 1))
    assert not torch.equal(kernel, kernel.T)


@pytest.mark.parametrize(
    ("guess", "setting", "words"),
    [
        (5, (9, 3, 1, 0, 2), ""),
        (7, (9, 3, 1, 0, 2), "leaves out the dilation"),
        (4, (8, 3, 2, 1, 1), ""),
        (5, (8, 3, 2, 1, 1), "Round down"),
        (3, (8, 3, 2, 1, 1), "leaves out the padding"),
        (8, (8, 3, 1, 1, 1), ""),
        (7, (8, 3, 1, 1, 1), "counts twice"),
        (8, (8, 3, 2, 1, 1), "leaves out the stride"),
        (5, (6, 1, 1, 0, 1), "Add 1"),
        (11, (9, 3, 1, 0, 2), "Count how often"),
        (3, (4, 5, 1, 0, 3), "does any window fit"),
    ],
)
def test_wrong_predictions_are_named(js, guess, setting, words):
    said = js("shapes")("mistake", guess, *setting)
    assert words in said if words else said == ""


def show(page, **state):
    page.set_content("<!doctype html><body style='margin:8px'>" + Figure("shapes", ALT, **state)._repr_html_())
    page.wait_for_selector(".cv-picture svg")


def slide(page, key, value):
    page.locator(f"[data-key={key}]").fill(str(value))


def test_prediction_stays_hidden_until_it_is_right(page):
    show(page, n=9, stride=1, padding=0, dilation=2, predict=True)
    formula, check = page.locator(".cv-picture p").first, page.get_by_role("button", name="Check")
    assert formula.inner_text() == "Output size = ?"
    slide(page, "guess", 7)
    check.click()
    assert "leaves out the dilation" in page.locator(".cv-readout").inner_text()
    assert check.is_disabled()
    assert formula.inner_text().endswith("= ?")
    slide(page, "guess", 5)
    check.click()
    assert "Right: 5." in page.locator(".cv-readout").inner_text()
    assert formula.inner_text().endswith("= 5")
    slide(page, "stride", 2)
    assert formula.inner_text().endswith("= ?")


def test_the_beginning_shows_four_settings_and_the_rest_opens(page):
    show(page, more=False)
    dilation = page.locator("[data-key=dilation]")
    assert page.locator("[data-key=n]").is_visible()
    assert not dilation.is_visible()
    page.locator("summary").click()
    before = page.locator(".cv-picture").inner_text()
    dilation.fill("3")
    assert page.locator(".cv-picture").inner_text() != before


def test_keyboard_moves_the_window_and_keeps_the_focus(page):
    show(page, n=7, stride=2, padding=1)
    page.locator("[data-cv-drag]").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert "Window at row 0, column 1" in page.locator(".cv-readout").inner_text()


def test_sum_grows_term_by_term(page):
    show(page, n=6, kernel=2, stride=2, padding=0, channels=4, groups=2, out=1)
    assert page.locator("[data-key=taps]").get_attribute("max") == "8"
    slide(page, "taps", 5)
    text = page.locator(".cv-picture").inner_text()
    assert "channel 2:" in text
    assert "channel 3:" in text
    assert "plus bias" not in text
    slide(page, "taps", 8)
    assert "plus bias" in page.locator(".cv-picture").inner_text()


def test_every_setting_is_possible_and_fits_a_phone(page):
    show(page)
    choose = random.Random(1)
    for n, k, s, p, d in [*cases(15, seed=2), (4, 5, 1, 0, 3), (10, 1, 1, 3, 1)]:
        values = {"n": n, "kernel": k, "stride": s, "padding": p, "dilation": d, "channels": choose.randint(1, 4)}
        for key, value in values.items():
            slide(page, key, value)
        if values["channels"] > 1:
            page.locator("[data-key=groups]").select_option(str(values["channels"]))
        formula = page.locator(".cv-picture p").first.inner_text()
        m = python_size(n, k, s, p, d)
        assert formula.endswith(f"= {m}" if m else "no window fits.")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
