"""Each check takes right answers, however written, and names what is wrong with the others."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook.checks import lenet_alexnet as checks
from cvbook.cnns import alexnet
from cvbook.cost import summary

TOWER = {"conv 2": 614_656, "conv 4": 1_327_488, "conv 5": 884_992, "share": 94.8}


def test_one_tower_is_what_summary_says() -> None:
    """The stored answers against AlexNet with the groups taken away."""
    model = alexnet(original=True)
    for i, (c, out, k) in {4: (96, 256, 5), 10: (384, 384, 3), 12: (384, 256, 3)}.items():
        model.features[i] = nn.Conv2d(c, out, k, padding=k // 2)
    rows = [row for row in summary(model, (3, 224, 224)) if row.multiply_adds]
    convs = [row for row in rows if row.kind == "Conv2d"]
    assert [convs[i].parameters for i in (1, 3, 4)] == [TOWER["conv 2"], TOWER["conv 4"], TOWER["conv 5"]]
    share = 100 * sum(row.multiply_adds for row in convs) / sum(row.multiply_adds for row in rows)
    assert share == pytest.approx(TOWER["share"], abs=0.05)
    assert checks.one_tower(TOWER).passed
    assert checks.one_tower(TOWER | {"share": share}).passed
    assert checks.one_tower(TOWER | {"share": 95}).passed
    assert checks.one_tower(TOWER | {"conv 2": ...}).message == "still empty: conv 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv 2": 307_456}, "with two groups"),
        ({"conv 4": 1_327_104}, "add one bias"),
        ({"conv 5": 0}, "conv 5: not 0"),
        ({"share": 0.948}, "give percent"),
        ({"share": 91.9}, "with two groups"),
        ({"share": 97.35}, "a convolution counts twice"),
        ({"share": 90.18}, "an FC layer counts twice"),
        ({"share": 95.3}, "54 x 54"),
        ({"share": 92}, "with two groups"),
        ({"share": 97}, "a convolution counts twice"),
        ({"share": 50}, "share: not 50"),
        ({"share": "94.8 %"}, "expected a number for share"),
        ({"conv 2": 614_655}, "conv 2: not 614655"),
    ],
)
def test_one_tower_names_the_mistake(change: dict, message: str) -> None:
    verdict = checks.one_tower(TOWER | change)
    assert verdict.state == "wrong"
    assert message in verdict.message


def costs(layers, channels, side, *, groups=True, bias=True, output=True, both_ends=True, pool=True, flat=True):
    pairs = []
    for kind, *numbers in layers:
        if kind == "conv":
            out, k, stride, padding, g = numbers
            before = side
            side = (side + (2 if both_ends else 1) * padding - k) // stride + 1
            weights = out * channels // (g if groups else 1) * k * k
            pairs.append((weights + out * bias, weights * (side if output else before) ** 2))
            channels = out
        elif kind == "pool":
            side = (side - numbers[0]) // numbers[1] + 1 if pool else side
            pairs.append((0, 0))
        else:
            weights = numbers[0] * channels * (side * side if flat else 1)
            pairs.append((weights + numbers[0] * bias, weights))
            channels, side = numbers[0], 1
    return pairs


def costs_by_torch(layers, channels, side):
    """Build the layers, run them, and look."""
    x, pairs = torch.zeros(1, channels, side, side), []
    for kind, *numbers in layers:
        if kind == "pool":
            x = F.max_pool2d(x, *numbers)
            pairs.append([0, 0])
            continue
        if kind == "conv":
            out, k, stride, padding, groups = numbers
            layer: nn.Module = nn.Conv2d(x.shape[1], out, k, stride, padding, groups=groups)
        else:
            x = x.flatten(1)
            layer = nn.Linear(x.shape[1], numbers[0])
        x = layer(x)
        pixels = x[0, 0].numel() if x.ndim == 4 else 1
        pairs.append([sum(p.numel() for p in layer.parameters()), layer.weight.numel() * pixels])
    return torch.tensor(pairs)


def costs_swapped(*arguments):
    return [(macs, parameters) for parameters, macs in costs(*arguments)]


@pytest.mark.parametrize("answer", [costs, costs_by_torch])
def test_costs_accepts(answer: Any) -> None:
    assert checks.costs(answer).passed


def variant(**changes: bool) -> Any:
    return lambda *arguments: costs(*arguments, **changes)


def fully_connected(macs: int, parameters: int) -> Any:
    """Biases of FC layers added to the multiply-adds, or taken from the parameters."""

    def answer(layers, channels, side):
        pairs = costs(layers, channels, side)
        outs = [layer[1] if layer[0] == "fc" else 0 for layer in layers]
        return [(p + parameters * out, m + macs * out) for (p, m), out in zip(pairs, outs, strict=True)]

    return answer


def test_costs_prints_all_digits() -> None:
    """One part in a million is a mistake, and it is visible."""
    message = checks.costs(lambda *a: [(p, m + (m > 10**5)) for p, m in costs(*a)]).message
    assert re.search(r"expected \([\d,]+, ([\d,]+)\), got \([\d,]+, (?!\1)[\d,]+\)", message), message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (variant(groups=False), "groups are ignored"),
        (variant(bias=False), "the biases are missing"),
        (variant(output=False), "you took the input's"),
        (variant(pool=False), "pooling changes the side"),
        (variant(flat=False), "the first fully connected layer sees"),
        (costs_swapped, "the pairs are swapped"),
        (fully_connected(0, -1), "biases of the fully connected layers are missing"),
        (fully_connected(1, 0), "FC layer's bias is no multiply-add"),
        (lambda *a: [(p, m + (p > 0)) for p, m in costs(*a)], "layer 0, ('conv', "),
        (lambda layers, channels, side: [(p, p) for p, _ in costs(layers, channels, side)], "expected"),
        (lambda layers, channels, side: [(0, 0)] * len(layers), "everything is zero"),
        (lambda layers, channels, side: costs(layers, channels, side)[1:], "expected shape"),
        (lambda layers, channels, side: [(896, 702464), (0, 0), (6, 6), (7, 7), (8, 8)], "expected"),
    ],
)
def test_costs_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.costs(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def head(maps, weight, bias):
    return F.linear(F.adaptive_avg_pool2d(maps, 1).flatten(1), weight, bias)


def head_as_convolution(maps, weight, bias):
    return F.conv2d(maps, weight[:, :, None, None], bias).mean((2, 3))


@pytest.mark.parametrize("answer", [head, head_as_convolution])
def test_any_size_accepts(answer: Any) -> None:
    assert checks.any_size(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m, w, b: F.linear(F.avg_pool2d(m, 6).flatten(1), w, b), "it should take any size"),
        (lambda m, w, b: F.linear(m.sum((2, 3)), w, b), "the maps are summed"),
        (lambda m, w, b: F.linear(m.amax((2, 3)), w, b), "the largest number"),
        (lambda m, w, b: m.mean((2, 3)) @ w.T, "the bias is missing"),
        (lambda m, w, b: head(F.interpolate(m, (6, 6), mode="bilinear"), w, b), "resized first"),
        (lambda m, w, b: head(m[:, :, :6, :6], w, b), "one corner"),
        (lambda m, w, b: F.linear(m.mean(1).flatten(1), w, b), "it should take any size"),
        (lambda m, w, b: torch.zeros(len(m), len(w)), "everything is zero"),
        (lambda m, w, b: m.zero_().mean((2, 3)) @ w.T + b, "expected"),
    ],
)
def test_any_size_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.any_size(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def masked(x, weight, bias, table, *, scale=False, invert=False, use_bias=True):
    mask = torch.zeros(weight.shape[:2])
    for o, seen in enumerate(table):
        mask[o, seen] = 1
    mask = 1 - mask if invert else mask
    mask = mask * mask.shape[1] / mask.sum(1, keepdim=True) if scale else mask
    return F.conv2d(x, weight * mask[:, :, None, None], bias if use_bias else None)


def map_by_map(x, weight, bias, table):
    maps = [sum(F.conv2d(x[:, i : i + 1], weight[o : o + 1, i : i + 1]) for i in seen) for o, seen in enumerate(table)]
    return torch.cat(maps, 1) + bias.view(1, -1, 1, 1)


def in_place(x, weight, bias, table):
    for o, seen in enumerate(table):
        for i in range(weight.shape[1]):
            if i not in seen:
                weight[o, i] = 0
    return F.conv2d(x, weight, bias)


def bias_each_time(x, weight, bias, table):
    maps = [
        sum(F.conv2d(x[:, i : i + 1], weight[o : o + 1, i : i + 1], bias[o : o + 1]) for i in seen)
        for o, seen in enumerate(table)
    ]
    return torch.cat(maps, 1)


def transposed(x, weight, bias, table):
    mask = torch.zeros(weight.shape[:2])
    for o, seen in enumerate(table):
        for i in seen:
            mask[i, o] = 1  # IndexError unless there are as many outputs as inputs
    return F.conv2d(x, weight * mask[:, :, None, None], bias)


@pytest.mark.parametrize("answer", [masked, map_by_map])
def test_partial_convolution_accepts(answer: Any) -> None:
    assert checks.partial_convolution(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, w, b, t: F.conv2d(x, w, b), "sees all input maps"),
        (lambda *a: masked(*a, scale=True), "nothing is to be made up for"),
        (lambda *a: masked(*a, invert=True), "turned round"),
        (lambda *a: masked(*a, use_bias=False), "the bias is missing"),
        (bias_each_time, "once for each map"),
        (in_place, "changes weight of its caller"),
        (lambda *a: 0 * masked(*a), "everything is zero"),
    ],
)
def test_partial_convolution_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.partial_convolution(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def lenet(activation, pool, *, last=False, width=16, order=False):
    first = [pool(2), activation()] if order else [activation(), pool(2)]
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), *first, nn.Conv2d(6, width, 5), activation(), pool(2), nn.Flatten(),
        nn.Linear(25 * width, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, 10),
        *([activation()] if last else []),
    )  # fmt: skip


class Other(nn.Module):
    def __init__(self, activation, pool):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 6, 5), activation(), pool(2), nn.Conv2d(6, 16, 5), activation(), pool(2))
        self.c5 = nn.Sequential(nn.Conv2d(16, 120, 5), activation())
        self.head = nn.Sequential(nn.Linear(120, 84), activation(), nn.Linear(84, 10))

    def forward(self, x):
        return self.head(self.c5(self.maps(x)).flatten(1))


class Shared(nn.Module):
    """One pooling and one activation, called several times, and the last activation made on the fly."""

    def __init__(self, activation, pool):
        super().__init__()
        self.act, self.pool, self.kind = activation(), pool(2), activation
        self.c1, self.c3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.last = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(self.act(self.c1(x)))
        x = self.pool(self.act(self.c3(x))).flatten(1)
        return self.last(self.kind()(self.f6(self.act(self.c5(x)))))


def one_object(activation, pool):
    a, p = activation(), pool(2)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), a, p, nn.Conv2d(6, 16, 5), a, p, nn.Flatten(),
        nn.Linear(400, 120), a, nn.Linear(120, 84), a, nn.Linear(84, 10),
    )  # fmt: skip


class Idle(Other):
    """Calls its activations and throws the result away."""

    def forward(self, x):
        a, p = self.maps[1], self.maps[2]
        x = self.maps[0](x)
        a(x)
        x = self.maps[3](p(x))
        return self.head(self.c5(p(a(x)))[:, :, 0, 0])


class Soft(Other):
    def forward(self, x):
        return super().forward(x).softmax(1)


def without(place: int) -> Any:
    return lambda *a: nn.Sequential(*(layer for i, layer in enumerate(lenet(*a)) if i != place))


@pytest.mark.parametrize("answer", [lenet, Other, Shared, one_object])
def test_hybrid_accepts(answer: Any) -> None:
    assert checks.hybrid(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda activation, pool: lenet(nn.ReLU, pool), "after C1 expected Tanh, then MaxPool2d, got ReLU, then Max"),
        (lambda activation, pool: lenet(activation, nn.MaxPool2d), "hybrid(ReLU, AvgPool2d): after C1"),
        (lambda *a: lenet(*a, last=True), "after the logits expected nothing, got Tanh"),
        (lambda *a: nn.Sequential(lenet(*a), nn.Softmax(1)), "after the logits expected nothing, got Softmax"),
        (Soft, "not what they give one by one"),
        (Idle, "not what they give one by one"),
        (without(1), "after C1 expected Tanh, then MaxPool2d, got MaxPool2d"),
        (without(8), "after C5 expected Tanh, got nothing"),
        (lambda *a: lenet(*a, width=15), "expected 61 706 parameters"),
        (lambda *a: lenet(*a, order=True), "after C1 expected Tanh, then MaxPool2d, got MaxPool2d, then Tanh"),
        (lambda *a: nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), "five layers with weights"),
        (lambda *a: torch.zeros(3, 10), "expected a module"),
    ],
)
def test_hybrid_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.hybrid(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("name", checks.__all__)
def test_stubs_are_not_attempted(name: str) -> None:
    check = getattr(checks, name)
    assert check(None).state == "not attempted"
    stub = dict.fromkeys(TOWER, ...) if name == "one_tower" else lambda *arguments: ...
    assert check(stub).state == "not attempted"
