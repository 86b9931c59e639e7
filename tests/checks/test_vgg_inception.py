"""Each check takes right answers, however written, and names what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook.checks import vgg_inception as checks

STACKS = {"field of four": 9, "layers for 15x15": 7, "saved in %": 72}


def test_stacks_accepts() -> None:
    assert checks.stacks(STACKS).passed
    assert checks.stacks(STACKS | {"saved in %": ...}).message == "still empty: saved in %"
    assert checks.stacks(STACKS | {"saved in %": 100 * (1 - 63 / 225)}).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field of four": 12}, "adds up the kernels"),
        ({"field of four": 8}, "from the start"),
        ({"layers for 15x15": 5}, "divides 15 by 3"),
        ({"layers for 15x15": 8}, "solve 1 + 2 n = 15"),
        ({"saved in %": 28}, "what is left"),
        ({"saved in %": 0.72}, "not a fraction"),
        ({"saved in %": 257}, "as the whole"),
        ({"saved in %": 0}, "saved in %: not 0"),
        ({"field of four": "9x9"}, "expected a number for field of four"),
        ({"layers for 15x15": 7.05}, "not 7.05"),
    ],
)
def test_stacks_names_the_mistake(change: dict, message: str) -> None:
    verdict = checks.stacks(STACKS | change)
    assert verdict.state == "wrong"
    assert message in verdict.message


class Module(nn.Module):
    """Figure 2b, with switches for mistakes."""

    def __init__(
        self, c, one, three, five, pool, *, k=5, project=True, bottleneck=True, norm=False, relu=True, bias=True,
        average=False, total=False, order=(0, 1, 2, 3), window=3, between=True, late=False, act=nn.ReLU,
    ):  # fmt: skip
        super().__init__()
        self.total, self.order = total, order

        def conv(a, b, k, relu=relu):
            parts = [nn.Conv2d(a, b, k, padding=k // 2, bias=bias)]
            parts += [nn.BatchNorm2d(b)] if norm else []
            return nn.Sequential(*parts, *([act()] if relu else []))

        pooling = (nn.AvgPool2d if average else nn.MaxPool2d)(window, stride=1, padding=window // 2)
        branches = [
            conv(c, one, 1),
            nn.Sequential(conv(c, three[0], 1, relu and between), conv(*three, 3))
            if bottleneck
            else conv(c, three[1], 3),
            nn.Sequential(conv(c, five[0], 1), conv(*five, k)) if bottleneck else conv(c, five[1], k),
            nn.Sequential(*[pooling, conv(c, pool, 1)][:: -1 if late else 1]) if project else pooling,
        ]
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        parts = [self.branches[i](x) for i in self.order]
        if self.total:
            most = max(part.shape[1] for part in parts)
            return sum(F.pad(part, (0, 0, 0, 0, 0, most - part.shape[1])) for part in parts)
        return torch.cat(parts, 1)


class Functional(nn.Module):
    def __init__(self, c_in, one, three, five, pool):
        super().__init__()
        self.p1, self.p2, self.p3 = (nn.Conv2d(c_in, n, 1) for n in (one, three[0], five[0]))
        self.c3, self.c5 = nn.Conv2d(*three, 3, padding="same"), nn.Conv2d(*five, 5, padding="same")
        self.pool = nn.Conv2d(c_in, pool, 1)

    def forward(self, x):
        largest = F.max_pool2d(x, 3, 1, 1)
        return F.relu(
            torch.cat([self.p1(x), self.c3(self.p2(x).relu()), self.c5(self.p3(x).relu()), self.pool(largest)], dim=1)
        )


@pytest.mark.parametrize("answer", [Module, Functional])
def test_inception_accepts(answer: Any) -> None:
    assert checks.inception(answer).passed


def variant(**changes: Any) -> Any:
    return lambda *arguments: Module(*arguments, **changes)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (variant(project=False), "no 1x1 convolution after the pooling"),
        (variant(order=(0, 1, 2)), "the pooling branch is missing"),
        (variant(total=True), "the branches are summed"),
        (variant(k=3), "it should be 5x5"),
        (variant(bottleneck=False), "before 3x3 and 5x5 are missing"),
        (variant(norm=True), "batch normalization"),
        (variant(bias=False), "have no biases"),
        (variant(relu=False), "the ReLUs are missing"),
        (variant(between=False), "no ReLU follows the 1x1 convolution before the 3x3"),
        (variant(late=True), "it comes after"),
        (variant(act=nn.Sigmoid), "a sigmoid"),
        (variant(order=(2, 1, 0, 3)), "another order"),
        (variant(order=(0, 1, 3, 2)), "another order"),
        (variant(average=True), "take the maximum of 3x3"),
        (variant(window=5), "pools over 5x5"),
        (variant(window=1), "does not pool"),
        (lambda c, *rest: nn.Conv2d(c, 5, 3), "keep the map's size"),
        (lambda *a: torch.zeros(1), "expected a module"),
    ],
)
def test_inception_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.inception(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def break_even(c, out, k):
    return (k * k * c * out - 1) // (c + k * k * out)


def break_even_by_trying(c, out, k):
    r = 0
    while (r + 1) * c + (r + 1) * k * k * out < k * k * c * out:
        r += 1
    return r


@pytest.mark.parametrize("answer", [break_even, break_even_by_trying])
def test_break_even_accepts(answer: Any) -> None:
    assert checks.break_even(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c, out, k: round(k * k * c * out / (c + k * k * out)), "round down"),
        (lambda c, out, k: break_even(out, c, k), "swapped"),
        (lambda c, out, k: c, "costs something, too"),
        (lambda c, out, k: c * out // (c + out), "the first kernel is 1x1"),
        (lambda c, out, k: (k * c * out - 1) // (c + k * out), "k*k pixels"),
        (lambda c, out, k: 0, "write both costs"),
        (lambda c, out, k: 27, "not 27"),
        (lambda c, out, k: k * k * c * out // (c + k * k * out), "both cost the same"),
        (lambda c, out, k: str(break_even(c, out, k)), "expected a number"),
    ],
)
def test_break_even_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.break_even(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


CE = F.cross_entropy


def loss(outputs, labels):
    if not isinstance(outputs, tuple):
        return CE(outputs, labels)
    main, *others = outputs
    return CE(main, labels) + 0.3 * sum(CE(logits, labels) for logits in others)


def loss_by_hand(outputs, labels):
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = [-o.log_softmax(1)[range(len(labels)), labels].mean() for o in outputs]
    return losses[0] + 0.3 * sum(losses[1:])


@pytest.mark.parametrize("answer", [loss, loss_by_hand])
def test_auxiliary_loss_accepts(answer: Any) -> None:
    assert checks.auxiliary_loss(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda o, y: CE(o[0], y), "left out"),
        (lambda o, y: sum(CE(part, y) for part in o), "have weight 1"),
        (lambda o, y: CE(o[0], y) + 0.3 * CE(o[1], y), "second auxiliary classifier"),
        (lambda o, y: CE(o[0], y) + 0.15 * (CE(o[1], y) + CE(o[2], y)), "multiplies each"),
        (lambda o, y: 0.3 * sum(CE(part, y) for part in o), "multiplies all three"),
        (lambda o, y: CE(o[0] + 0.3 * (o[1] + o[2]), y), "a loss of its own"),
        (lambda o, y: CE(o[0], y) + 0.3 * (CE(o[1], y) + CE(o[2], y)), "as in eval mode"),
        (lambda o, y: loss(o, y).item(), "no gradient comes out"),
        (lambda o, y: loss(o, y).detach(), "no gradient comes out"),
        (lambda o, y: loss((o[0], o[1].detach(), o[2]), y), "aux1 gets no gradient"),
        (lambda o, y: torch.tensor(0.0), "everything is zero"),
        (lambda o, y: torch.tensor(2.0), "expected"),
    ],
)
def test_auxiliary_loss_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.auxiliary_loss(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def he(layer):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def he_uniform(layer):
    with torch.no_grad():
        fan_in = layer.weight[0].numel()
        layer.weight.uniform_(-1, 1).mul_((6 / fan_in) ** 0.5)
        layer.bias[:] = 0
    return layer


@pytest.mark.parametrize("answer", [he, he_uniform])
def test_initialize_accepts(answer: Any) -> None:
    assert checks.initialize(answer).passed


def normal(std):
    def answer(layer):
        k = layer.kernel_size[0] ** 2
        nn.init.normal_(layer.weight, 0, std(layer.in_channels * k, layer.out_channels * k))
        nn.init.zeros_(layer.bias)

    return answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (normal(lambda i, o: 0.01), "the same for all layers"),
        (normal(lambda i, o: 0.1), "the same for all layers"),
        (normal(lambda i, o: i**-0.5), "halves the mean square"),
        (normal(lambda i, o: (2 / (i + o)) ** 0.5), "Glorot"),
        (normal(lambda i, o: (2 / o) ** 0.5), "counts the outputs"),
        (normal(lambda i, o: 2 / i), "is the *variance*"),
        (normal(lambda i, o: 2 * i**-0.5), "times as large"),
        (lambda layer: nn.init.zeros_(layer.weight), "all weights of a layer are equal"),
        (lambda layer: nn.init.constant_(layer.weight, 0.1), "all weights of a layer are equal"),
        (lambda layer: nn.init.kaiming_normal_(layer.weight), "set the biases to zero"),
        (lambda layer: he(layer) or nn.init.constant_(layer.bias, float("nan")), "set the biases to zero"),
        (lambda layer: he(layer) or setattr(layer, "bias", None), "set the biases to zero"),
        (lambda layer: nn.init.dirac_(layer.weight), "draw them at random"),
        (lambda layer: nn.init.uniform_(layer.weight, 0, 2 / layer.weight[0].numel()), "draw both signs"),
    ],
)
def test_initialize_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.initialize(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("name", checks.__all__)
def test_stubs_are_not_attempted(name: str) -> None:
    check = getattr(checks, name)
    assert check(None).state == "not attempted"
    stub = dict.fromkeys(STACKS, ...) if name == "stacks" else lambda *arguments: ...
    assert check(stub).state == "not attempted"
