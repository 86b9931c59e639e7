"""Checks of the exercises in the lesson *Depth*."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from cvbook.augmentation import shift
from cvbook.checks.verdict import Missing, Wrong, equal, exercise, finite, mapping
from cvbook.data import fashion_mnist
from cvbook.equivariance import translate
from cvbook.neuron.initialization import default_std, gradient_norms, he_std, mlp, xavier_std
from cvbook.train import accuracy, fit

__all__ = ["born_dead", "factors", "leaky_std", "shifted", "training_loop"]

STARTS = {  # activation, weights' standard deviation at n inputs and n outputs
    "ReLU, He": (nn.ReLU, he_std),
    "ReLU, Xavier": (nn.ReLU, lambda n: xavier_std(n, n)),
    "ReLU, PyTorch's default": (nn.ReLU, default_std),
    "no activation, Xavier": (nn.Identity, lambda n: xavier_std(n, n)),
}

LOOP_MISTAKES: dict[str, dict[str, Any]] = {  # arguments of _trained
    "the gradients are never set to zero, so they add up": {"zero": False},
    "the images come in the same order in every epoch: draw a new permutation in each": {"order": "once"},
    "the images are not shuffled": {"order": "plain"},
    "a smaller last batch is used too; fit drops it": {"drop": False},
    "the learning rate stays as it is: a schedule is missing": {"plan": "none"},
    "the schedule is never stepped, so the rate stays at the small value it starts with": {"plan": "never"},
    "the schedule takes one step each epoch; it wants one after each batch": {"plan": "epoch"},
    "the weight decay is missing: fit takes AdamW with weight_decay=0.01": {"decay": 0.0},
    "this is plain gradient descent; fit takes AdamW": {"optimizer": torch.optim.SGD},
    "weight decay is added to the gradient, as Adam does; AdamW keeps it apart": {"optimizer": torch.optim.Adam},
    "the shuffling has another seed than 0": {"seed": 1},
}
AVERAGE_MISTAKES: dict[str, dict[str, Any]] = {
    "these are the last weights: copy the average into the model, and see that ema belongs to the old average": {},
    "the average starts with the weights before training; take those after the first step": {"average": "start"},
    "the average starts at zero; it starts with the weights after the first step": {"average": "zero"},
    "this is the plain mean of all weights; a moving average forgets the early ones": {"average": "mean"},
    "the average is taken once each epoch; fit takes it after each step": {"average": "epoch"},
}


@exercise("What one layer hands on")
def factors(answer: Mapping[str, Any]) -> str:
    """``answer``: for each way to start, the factor on the gradient's norm from a layer to the one before it."""
    for name, (activation, std) in STARTS.items():
        found = finite(mapping(answer, STARTS).get(name), name)
        right = _measured_factor(activation, std)
        if abs(found - right) <= 0.05 * right:
            continue
        shown = f"{name}: {found:.3g} "
        if right > 0.95:
            raise Wrong(f"{shown}is not what is measured; multiply n Var(w) by the mean square of the slope")
        for value, sentence in (
            (right**2, "is the factor on the mean square; the norm wants its root"),
            (1 / right, "is the way round: the gradient comes from the loss and gets smaller towards the input"),
            (right * math.sqrt(2), "forgets the ReLU: its slope is 0 for half of the sums"),
            (right * 2, "forgets the ReLU, and takes no root"),
            (right / math.sqrt(2), "halves the norm; the ReLU halves its square"),
            (1, "would lose nothing; look at the figure at the top"),
        ):
            if abs(found - value) <= 0.03 * value:
                raise Wrong(shown + sentence)
        raise Wrong(f"{shown}is not what is measured; it is the root of n Var(w) times the mean square of the slope")
    return "right: two of the four keep the gradient; the 2 in He's formula is the whole difference"


@exercise("He's formula for a leaky ReLU")
def leaky_std(answer: Callable[[int, int, float], Any]) -> str:
    """``answer(fan_in, fan_out, slope)``: weights' standard deviation; tried on a funnel of 20 layers."""
    cases = [(600, 580, 0.0), (300, 280, 0.25), (64, 256, 0.5), (100, 10, 1.0)]
    got = [finite(answer(*case), f"fan_in={case[0]}, fan_out={case[1]}, slope={case[2]}") for case in cases]
    mistakes: dict[str, Callable[[int, int, float], float]] = {
        "this is the variance; the standard deviation is its root": lambda m, n, a: 2 / ((1 + a * a) * m),
        "this keeps linear layers; half of the sums are negative and come out smaller": lambda m, n, a: m**-0.5,
        "this is right for plain ReLU only; the negative half of a leaky ReLU passes slope times z": (
            lambda m, n, a: (2 / m) ** 0.5
        ),
        "forward, each sum has fan_in terms; fan_out belongs to the way back": (
            lambda m, n, a: (2 / ((1 + a * a) * n)) ** 0.5
        ),
        "this is Xavier's compromise, which knows no activation": lambda m, n, a: (2 / (m + n)) ** 0.5,
        "the slope is not squared; what adds up are squares": lambda m, n, a: (2 / ((1 + a) * m)) ** 0.5,
        "the negative half adds to the positive half: 1 + slope**2, not minus": (
            lambda m, n, a: (2 / (max(1 - a * a, 1e-9) * m)) ** 0.5
        ),
        "this is PyTorch's default": lambda m, n, a: (3 * m) ** -0.5,
    }
    for sentence, compute in mistakes.items():
        if all(math.isclose(g, compute(*case), rel_tol=1e-3) for g, case in zip(got, cases, strict=True)):
            raise Wrong(sentence)
    if min(got) <= 0:
        raise Wrong(f"expected a standard deviation above 0, got {min(got):g}")
    for slope in (0.0, 0.5):
        ratio = _funnel(answer, slope)
        if not math.isfinite(ratio):
            raise Wrong(f"slope {slope:g}: the sums of 20 layers overflow; keep their mean square from layer to layer")
        if not 0.9 <= ratio <= 1.1:
            raise Wrong(
                f"slope {slope:g}: after 20 layers the sums are {ratio:.3g} times as large as after one; keep their "
                "mean square from layer to layer"
            )
    return "right: 20 layers of falling width keep the size of their sums; slope 0 is He's formula, slope 1 is linear"


@exercise("The loop with averaged weights")
def training_loop(answer: Callable[..., Any]) -> str:
    """``answer(model, images, labels, epochs, ema)`` trains in place, as `fit` does; ``ema`` may be None."""
    for ema in (None, 0.98):
        images, labels = torch.rand(300, 1, 4, 4), torch.randint(5, (300,))
        start = mlp([16, 12, 5], init="he")
        mine, right = copy.deepcopy(start), copy.deepcopy(start)
        result = answer(mine, images.clone(), labels.clone(), 12, ema)
        if torch.equal(_flat(mine), _flat(start)):
            if result is None or result is ...:
                raise Missing("the model is as it was: write the loop, and train the model that comes in, not a copy")
            raise Wrong("the model that comes in is as it was; train it in place, not a copy of it")
        fit(right, images, labels, epochs=12, ema=ema, progress=False)
        known: dict[str, Callable[[], object]] = {
            sentence: functools.partial(_trained, start, images, labels, 12, **mistake)
            for sentence, mistake in (LOOP_MISTAKES if ema is None else AVERAGE_MISTAKES | LOOP_MISTAKES).items()
        }
        what = "the weights after 12 epochs without averaging" if ema is None else f"the averaged weights, ema={ema}"
        equal(_flat(mine), _flat(right), what=what, mistakes=known)
    return "right: to the last digits that fit computes, with and without averaging"


@exercise("Born dead")
def born_dead(answer: Callable[[int, int], Any]) -> str:
    """``answer(width, depth)``: the probability that a ReLU network at its start says 0 for a given input."""
    cases = [(1, 3), (2, 10), (3, 5), (4, 12), (5, 2), (8, 30)]
    got = [finite(answer(*case), f"width {case[0]} and depth {case[1]}") for case in cases]
    mistakes: dict[str, Callable[[int, int], float]] = {
        "this is the probability that it lives": lambda n, d: (1 - 2**-n) ** d,
        "this is one layer; it is enough that one of all layers dies": lambda n, d: 2**-n,
        "this adds up probabilities, which can pass 1; multiply those of staying alive": lambda n, d: d * 2**-n,
        "this asks all layers to die; one dead layer is enough": lambda n, d: 2.0 ** (-n * d),
        "width and depth are exchanged: the units of one layer must all be off": lambda n, d: 1 - (1 - 2**-d) ** n,
        "one unit that is off does not kill a layer; all must be off": lambda n, d: 1 - 0.5 ** (n * d),
        "the width is missing": lambda n, d: 1 - 0.5**d,
    }
    lived = [_share_dead(*case) for case in cases]
    if all(abs(g - dead) <= 0.03 for g, dead in zip(got, lived, strict=True)):
        return "right: it agrees with 3 000 random networks of each shape"
    for sentence, compute in mistakes.items():
        if all(math.isclose(g, compute(*case), rel_tol=1e-6) for g, case in zip(got, cases, strict=True)):
            raise Wrong(sentence)
    (n, d), was, dead = next((c, g, x) for c, g, x in zip(cases, got, lived, strict=True) if abs(g - x) > 0.03)
    raise Wrong(
        f"width {n}, depth {d}: of 3 000 random networks {100 * dead:.0f} % are dead, you say {100 * was:.0f} %"
    )


@exercise("Train on moved images")
def shifted(answer: Mapping[Any, Any]) -> str:
    """``answer``: for 0, 2 and 4 pixels to the right, the test accuracy in percent after training with `shift`."""
    got = {d: finite(mapping(answer, (0, 2, 4)).get(d), f"{d} pixels") for d in (0, 2, 4)}
    if all(0 < value <= 1 for value in got.values()):
        raise Wrong("these are shares; give percent")
    with_shift, without = _moved_accuracies(augment=True), _moved_accuracies(augment=False)
    wrong = [d for d in got if abs(got[d] - with_shift[d]) > 3]
    if not wrong:
        return "right: moving costs a few points at rest, wins many at 2 pixels, and helps even at 4, never trained on"
    if all(abs(got[d] - without[d]) <= 3 for d in got):
        raise Wrong("these are the numbers without augmentation: pass augment=shift to fit")
    d = wrong[0]
    raise Wrong(f"{d} pixels: expected about {with_shift[d]:.0f} %, got {got[d]:.0f}; train five epochs from seed 0")


def _measured_factor(activation: type[nn.Module], std: Callable[[int], float]) -> float:
    """The geometric mean over the layers of three deep, wide networks."""
    n, layers, logs = 300, 16, []
    for _ in range(3):
        net = mlp([n] * layers + [10], init="default" if std is default_std else "he")
        for i, layer in enumerate(net):
            if isinstance(layer, nn.Linear) and std is not default_std:
                nn.init.normal_(layer.weight, 0, std(layer.in_features))
            elif isinstance(layer, nn.ReLU):
                net[i] = activation()
        norms = gradient_norms(net, torch.randn(64, n), torch.randint(10, (64,)))[:-1]
        logs.append(math.log(norms[0] / norms[-1]) / (len(norms) - 1))
    return math.exp(sum(logs) / len(logs))


def _funnel(std: Callable[[int, int, float], Any], slope: float) -> float:
    """Root mean square of the sums of layer 20 relative to layer 1: 20 networks from 600 to 220 units."""
    widths = [600 - 20 * i for i in range(21)]
    first = last = 0.0
    for _ in range(20):
        z = torch.randn(8, widths[0]) @ torch.randn(widths[0], widths[0]) * float(std(widths[0], widths[0], slope))
        first += z.square().mean().item()
        for m, n in itertools.pairwise(widths):
            z = F.leaky_relu(z, slope) @ torch.randn(m, n) * float(std(m, n, slope))
        last += z.square().mean().item()
    return math.sqrt(last / first) if first else math.nan


def _trained(
    start: nn.Sequential, images: Tensor, labels: Tensor, epochs: int, *, zero: bool = True, order: str = "new",
    drop: bool = True, plan: str = "step", decay: float = 1e-2, optimizer: Callable[..., Any] = torch.optim.AdamW,
    seed: int = 0, average: str = "",
) -> Tensor:  # fmt: skip
    """The weights after a training with one mistake, flat."""
    model, generator = copy.deepcopy(start), torch.Generator().manual_seed(seed)
    steps = len(images) // 128 if drop else -(-len(images) // 128)
    opt = optimizer(model.parameters(), lr=3e-3, weight_decay=decay)
    schedule = OneCycleLR(opt, 3e-3, total_steps=epochs * steps) if plan != "none" else None
    permutation = torch.randperm(len(images), generator=generator)
    mean, taken = (_flat(start), 1) if average == "start" else (torch.zeros_like(_flat(start)), 0)
    for epoch in range(epochs):
        if order == "plain":
            permutation = torch.arange(len(images))
        elif epoch and order == "new":
            permutation = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            index = permutation[128 * step : 128 * (step + 1)]
            loss = F.cross_entropy(model(images[index]), labels[index])
            if zero:
                opt.zero_grad()
            loss.backward()
            opt.step()
            if schedule and (plan == "step" or (plan == "epoch" and step + 1 == steps)):
                schedule.step()
            if average != "epoch" or step + 1 == steps:
                share = 1 / (taken + 1) if average == "mean" else 0.02
                mean = _flat(model) if not taken and average != "zero" else (1 - share) * mean + share * _flat(model)
                taken += 1
    return mean if average else _flat(model)


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _share_dead(width: int, depth: int, count: int = 3_000) -> float:
    h = torch.randn(count, 1, width)
    for _ in range(depth):
        h = (h @ torch.randn(count, width, width)).relu()
    return (h.flatten(1) == 0).all(1).double().mean().item()


@functools.cache
def _moved_accuracies(*, augment: bool) -> dict[int, float]:
    images, labels = fashion_mnist("train")
    test_images, test_labels = fashion_mnist("test")
    torch.manual_seed(0)
    model = mlp([784, 128, 10])
    fit(model, images, labels, epochs=5, augment=shift if augment else None, progress=False)
    return {d: 100 * accuracy(model, translate(test_images, 0, d, mode="zeros"), test_labels) for d in (0, 2, 4)}
