"""Each check accepts right answers, written in two ways, and names the mistake of wrong ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cvbook.checks import receptive_field as check


def loop(layers, *, late=True, use_dilation=True, use_stride=True, extra=1):
    r = j = 1
    for k, s, d in layers:
        if not late:
            j *= s
        r += (k - extra) * (d if use_dilation else 1) * (j if use_stride else 1)
        if late:
            j *= s
    return r, j


def backwards(layers):
    """From the output down: the interval grows by each stride."""
    low = high = 0
    low2, high2 = 1, 1
    for k, s, d in reversed(layers):
        low, high = low * s, high * s + d * (k - 1)
        low2, high2 = low2 * s, high2 * s + d * (k - 1)
    return high - low + 1, low2 - low


def offset(layers, *, sign=-1, late=True, middle=0.5, use_dilation=True):
    c, j = 0.0, 1
    for k, s, d, p in layers:
        if not late:
            j *= s
        c += ((k - 2 * 0.5) * (d if use_dilation else 1) * middle + sign * p) * j
        if late:
            j *= s
    return c


def right_map(net, x):
    x = x.detach().requires_grad_()
    y = net(x)
    (g,) = torch.autograd.grad(y[:, :, y.shape[2] // 2, y.shape[3] // 2].sum(), x)
    return g.abs().sum(1).mean(0) / g.abs().sum(1).mean(0).sum()


def one_by_one(net, x):
    total = torch.zeros(x.shape[2:])
    for image in x:
        image = image[None].clone().requires_grad_()
        y = net(image)
        y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
        total += image.grad[0].abs().sum(0)
    return total / total.sum()


def moved(step, *, jump=True):
    """The center, if a layer moved it by ``step(k, d, p)``."""

    def answer(layers):
        c, j = 0.0, 1
        for k, s, d, p in layers:
            c += step(k, d, p) * (j if jump else 1)
            j *= s
        return c

    return answer


def consumed(function):
    """The same answer, from a reader who takes the layers off the list one by one."""

    def answer(layers):
        taken = []
        while layers:
            taken.append(layers.pop(0))
        return function(taken)

    return answer


def normal(field):
    return field / field.sum()


def gradient(net, x, *, unit=lambda y: y[:, :, y.shape[2] // 2, y.shape[3] // 2]):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(unit(net(x)).sum(), x)[0]


def branch_sizes(branches):
    return [loop(layers)[0] for layers in branches]


def chain(dilations, **settings):
    return nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=d, dilation=d, **settings) for d in dilations])


ACCEPTED = [
    (check.layers_needed, 112),
    (check.layers_needed, 112.0),
    (check.stack, loop),
    (check.stack, backwards),
    (check.stack, consumed(loop)),
    (check.center, consumed(offset)),
    (check.branches, consumed(lambda b: max(branch_sizes(b)))),
    (check.branches, lambda b: max(branch_sizes(b))),
    (check.branches, lambda b: sorted(backwards(layers)[0] for layers in b)[-1]),
    (check.center, offset),
    (check.center, lambda layers: torch.tensor(offset(layers))),
    (check.dilated, chain((1, 2, 4, 8))),
    (check.dilated, chain((5, 4, 3, 3), bias=False)),
    (check.gradient_map, right_map),
    (check.gradient_map, one_by_one),
]


@pytest.mark.parametrize(("run", "answer"), ACCEPTED)
def test_right_answers_pass(run, answer):
    verdict = run(answer)
    assert verdict.passed, verdict


@pytest.mark.parametrize("run", [check.layers_needed, check.dilated])
@pytest.mark.parametrize("answer", [None, ...])
def test_untouched_values_are_not_attempted(run, answer):
    assert run(answer).state == "not attempted"


@pytest.mark.parametrize("run", [check.stack, check.branches, check.center, check.gradient_map])
@pytest.mark.parametrize("answer", [lambda *_: None, lambda *_: ...])
def test_stubs_are_not_attempted(run, answer):
    assert run(answer).state == "not attempted"


REJECTED = [
    (check.layers_needed, 0, "least n"),
    (check.layers_needed, 111, "one too few"),
    (check.layers_needed, 111.5, "half a layer"),
    (check.layers_needed, 75, "overlap"),
    (check.layers_needed, 224, "least n"),
    (check.stack, lambda layers: (0, 0), "zero"),
    (check.stack, lambda layers: loop(layers, late=False), "grow the size first"),
    (check.stack, lambda layers: loop(layers, use_dilation=False), "dilation is ignored"),
    (check.stack, lambda layers: loop(layers, use_stride=False), "strides of earlier layers"),
    (check.stack, lambda layers: loop(layers, extra=0), "adds k - 1, not k"),
    (check.stack, lambda layers: (loop(layers)[0] - 1, loop(layers)[1]), "start from 1"),
    (check.stack, lambda layers: loop(layers)[::-1], "swapped"),
    (check.stack, lambda layers: loop([x for x in layers if x[0] != 2 or x[1] != 2]), "expected"),
    (check.branches, lambda b: 0, "zero"),
    (check.branches, lambda b: sum(branch_sizes(b)), "not added up"),
    (check.branches, lambda b: loop([layer for layers in b for layer in layers])[0], "one after the other"),
    (check.branches, lambda b: branch_sizes(b)[0], "only the first"),
    (check.branches, lambda b: branch_sizes(b)[-1], "only the last"),
    (check.branches, lambda b: min(branch_sizes(b)), "narrowest"),
    (check.stack, consumed(lambda layers: (1, 1)), "expected"),
    (check.branches, lambda b: loop(max(b, key=len))[0], "most layers"),
    (check.center, lambda layers: 0.0, "zero"),
    (check.center, consumed(lambda layers: 5.0), "expected"),
    (check.center, moved(lambda k, d, p: d * (k - 1) // 2 - p), "floor division"),
    (check.center, moved(lambda k, d, p: d * ((k - 1) // 2) - p), "floor division"),
    (check.center, moved(lambda k, d, p: d * (k // 2) - p), "not k // 2"),
    (check.center, moved(lambda k, d, p: d * k // 2 - p), "not k // 2"),
    (check.center, moved(lambda k, d, p: d * k / 2 - p), "not k/2"),
    (check.center, moved(lambda k, d, p: d * (k - 1) - p), "half its reach"),
    (check.center, moved(lambda k, d, p: -p), "first pixel"),
    (check.center, moved(lambda k, d, p: d * (k - 1) / 2 - p, jump=False), "strides of earlier layers"),
    (
        check.center,
        lambda layers: moved(lambda k, d, p: d * (k - 1) / 2)(layers) - sum(p for *_, p in layers),
        "padding counts in steps too",
    ),
    (check.center, lambda layers: offset(layers, sign=0), "padding is ignored"),
    (check.center, lambda layers: offset(layers, sign=1), "subtract"),
    (check.center, lambda layers: offset(layers, late=False), "move first"),
    (check.center, lambda layers: offset(layers, use_dilation=False), "dilation is ignored"),
    (check.dilated, 3, "nn.Module"),
    (check.dilated, chain((1, 1, 1, 1)), "9 x 9"),
    (check.dilated, chain((1, 2, 4)), "four 3x3"),
    (check.dilated, chain((1, 2, 4, 8), stride=2), "stride 1"),
    (check.dilated, nn.Sequential(*[nn.Conv2d(1, 1, 3, dilation=d) for d in (1, 2, 4, 8)]), "shrinks"),
    (
        check.dilated,
        nn.Sequential(*[nn.Conv2d(i, o, 3, padding=1) for i, o in ((1, 2), (2, 2), (2, 2), (2, 1))]),
        "40 parameters",
    ),
    (check.gradient_map, lambda net, x: torch.zeros(10, 12), "zero"),
    (check.gradient_map, lambda net, x: gradient(net, x).abs().sum(1).mean(0), "add up to 1"),
    (
        check.gradient_map,
        lambda net, x: gradient(net, x).abs().sum(1).mean(0) / gradient(net, x).abs().sum(1).mean(0).max(),
        "largest value",
    ),
    (
        check.gradient_map,
        lambda net, x: gradient(net, x).sum(1).mean(0) / gradient(net, x).sum(1).mean(0).sum(),
        "cancel",
    ),
    (
        check.gradient_map,
        lambda net, x: (g := gradient(net, x, unit=lambda y: y[:, :, 0, 0]).abs().sum(1).mean(0)) / g.sum(),
        "corner",
    ),
    (
        check.gradient_map,
        lambda net, x: (g := gradient(net, x, unit=lambda y: y).abs().sum(1).mean(0)) / g.sum(),
        "all units",
    ),
    (check.gradient_map, lambda net, x: normal(gradient(net, x).abs()[0].sum(0)), "first image"),
    (
        check.gradient_map,
        lambda net, x: normal(
            gradient(net, x, unit=lambda y: y[:, :, (y.shape[2] - 1) // 2, (y.shape[3] - 1) // 2]).abs().sum(1).mean(0)
        ),
        "an even map",
    ),
    (
        check.gradient_map,
        lambda net, x: normal(
            gradient(net, x, unit=lambda y: y[:, :, x.shape[2] // 2, x.shape[3] // 2]).abs().sum(1).mean(0)
        ),
        "not of the image",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("run", "answer", "message"), REJECTED)
def test_wrong_answers_are_named(run, answer, message):
    verdict = run(answer)
    assert verdict.state == "wrong", verdict
    assert message in verdict.message


def test_the_first_error_does_not_give_the_dilations_away():
    assert "8" not in check.dilated(chain((1, 1, 1, 1))).message


def test_holes_are_mentioned_and_accepted():
    assert "holes" in check.dilated(chain((1, 1, 1, 12))).message
    assert "holes" not in check.dilated(chain((1, 2, 4, 8))).message


def test_an_answer_cannot_spoil_the_network_of_the_check():
    def zeroing(net, x):
        for parameter in net.parameters():
            parameter.data.zero_()
        return torch.zeros(x.shape[2:])

    assert check.gradient_map(zeroing).state == "wrong"
    assert check.gradient_map(right_map).passed
