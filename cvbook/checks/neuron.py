"""Checks of the exercises in the lesson *Neuron and activations*."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.verdict import Wrong, equal, exercise, finite, mapping
from cvbook.data import CLASSES, fashion_mnist

__all__ = ["collapse", "neuron", "pairs", "parameters", "softmax", "softmax_slopes"]


@exercise("A neuron for a batch")
def neuron(answer: Callable[[Any, Any, float], object]) -> str:
    """``answer(x, w, b)``: NumPy arrays (B, D) and (D,), a number; the B outputs of one neuron with ReLU."""
    for B, D in ((5, 3), (1, 4), (4, 4), (6, 1)):
        x, w = torch.randn(B, D).double(), torch.randn(D).double()
        x[0] = x[0].abs() * w.sign()  # at least one sum is positive, whatever the others are
        products = x * w
        z = products.sum(1)
        b = 0.4 - z.sort().values[B // 2].item()  # some outputs are clipped, some are not
        mistakes = {
            "the bias is missing": z.clamp(min=0),
            "the activation is missing: no output of ReLU is negative": z + b,
            "the activation comes before the bias; add b first": z.clamp(min=0) + b,
            "each product goes through ReLU alone; it acts on the sum": products.clamp(min=0).sum(1) + b,
            "this is the sigmoid of the sum; here the activation is ReLU": torch.sigmoid(z + b),
            "you add up over the batch; sum along the last axis": (products.sum(0) + b).clamp(min=0),
            "this is the mean of the products; a neuron adds them up": (products.mean(1) + b).clamp(min=0),
            "the bias is subtracted": (z - b).clamp(min=0),
        }
        if B > 1:  # of a batch of one, this is right except for its shape
            whole = (products.sum() + b).clamp(min=0)
            mistakes["you add up over the whole batch; each row of x is an input of its own"] = whole
        what = f"x of shape {(B, D)}, w of shape {(D,)} and b = {b:.2f}"
        equal(answer(x.numpy(), w.numpy(), b), (z + b).clamp(min=0), what=what, mistakes=mistakes)
    return "right: one row or many, the same line of code"


@exercise("Two linear layers are one")
def collapse(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> str:
    """``answer(W1, b1, W2, b2)``: the pair (W, b) with W x + b = W2 (W1 x + b1) + b2 for every x."""
    for inputs, hidden, outputs in ((3, 3, 3), (4, 2, 3), (1, 5, 2)):
        W1, b1 = torch.randn(hidden, inputs).double(), torch.randn(hidden).double()
        W2, b2 = torch.randn(outputs, hidden).double(), torch.randn(outputs).double()

        found = answer(W1.clone(), b1.clone(), W2.clone(), b2.clone())
        if found is None or found is ...:
            raise NotImplementedError
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"expected a pair (W, b), got {type(found).__name__}")

        both = F.linear(F.linear(torch.eye(inputs).double(), W1, b1), W2, b2)  # what happens to each unit vector
        b = F.linear(F.linear(torch.zeros(inputs).double(), W1, b1), W2, b2)
        W = (both - b).T
        what = f"{inputs} inputs, {hidden} numbers in between and {outputs} outputs"
        matrix: dict[str, Callable[[], object]] = {  # partial: where shapes do not fit, the mistake cannot be made
            "W: the order is turned round; W1 acts first, so it stands on the right": partial(torch.matmul, W1, W2),
            "W: a layer after a layer is a product, not a sum": partial(torch.add, W1, W2),
            "W: this multiplies number by number; matrices are multiplied by @": partial(torch.mul, W1, W2),
            "W: this is W transposed": W.T.clone,
        }
        vector: dict[str, Callable[[], object]] = {
            "b: the first bias goes through the second layer too; it arrives as W2 @ b1": partial(torch.add, b1, b2),
            "b: the first bias is missing; it goes through the second layer": b2.clone,
            "b: the second bias is missing": (W2 @ b1).clone,
            "b: the layers are mixed up; b1 goes through W2": partial(torch.addmv, b1, W1, b2),
        }
        equal(found[0], W, what=f"W, {what}", mistakes=matrix)
        equal(found[1], b, what=f"b, {what}", mistakes=vector)
    return "right: and so is a stack of a hundred"


@exercise("Counting parameters")
def parameters(answer: Callable[[list[int]], object]) -> str:
    """``answer(widths)``: weights and biases of a stack of layers, ``widths`` from the inputs to the outputs."""
    drawn = [torch.randint(2, 60, (int(n),)).tolist() for n in torch.randint(3, 6, (5,))]
    cases = [[7, 3], *drawn, [784, 128, 10]]
    got = []
    for widths in cases:
        value = answer(list(widths))
        if value is None or value is ...:
            raise NotImplementedError
        if isinstance(value, bool) or not isinstance(value, (numbers.Real, Tensor)):
            raise Wrong(f"expected a number for {widths}, got {type(value).__name__}")
        got.append(finite(value, str(widths)))
    right = [sum(p.numel() for p in _stack(widths).parameters()) for widths in cases]
    if got == right:
        return "right: " + f"{right[-1]:,}".replace(",", " ") + f" for {cases[-1]}"

    mistakes: dict[str, Callable[[list[int]], int]] = {
        "the biases are missing: one for each neuron": lambda w: sum(a * b for a, b in itertools.pairwise(w)),
        "the output layer is forgotten": lambda w: sum(a * b + b for a, b in itertools.pairwise(w[:-1])),
        "the input width is used again; a layer's inputs are the outputs of the layer before": (
            lambda w: sum(w[0] * b + b for b in w[1:])
        ),
        "you count one bias for each layer; there is one for each neuron": (
            lambda w: sum(a * b + 1 for a, b in itertools.pairwise(w))
        ),
        "the inputs have no biases; nothing computes them": (
            lambda w: sum(a * b for a, b in itertools.pairwise(w)) + sum(w)
        ),
        "a layer has one bias for each output, not for each input": (
            lambda w: sum(a * b + a for a, b in itertools.pairwise(w))
        ),
        "these are the neurons; each has a weight for each of its inputs, and a bias": lambda w: sum(w[1:]),
    }
    for sentence, count in mistakes.items():
        if got == [count(widths) for widths in cases]:
            raise Wrong(sentence)
    widths, was, wanted = next((w, g, r) for w, g, r in zip(cases, got, right, strict=True) if g != r)
    raise Wrong(f"for {widths}, expected {wanted}, got {was:g}")


@exercise("A softmax that never overflows")
def softmax(answer: Callable[[Tensor, int], object]) -> str:
    """``answer(z, dim)``: probabilities along the axis ``dim``, for scores of any size, -inf included."""
    for shape, dim in (((3, 4), 1), ((3, 4), 0), ((4, 4), -1), ((2, 3, 2), 1)):
        z = torch.randn(shape).double()
        mistakes = {
            f"you add up along the last axis always; here dim={dim}": F.softmax(z, -1),
            f"you add up along another axis than dim={dim}": F.softmax(z, (dim + 1) % z.ndim),
            "you divide by the sum over everything; along dim each row adds up to 1 by itself": z.exp() / z.exp().sum(),
            "the exponentials are not divided by their sum": z.exp(),
            "the shifted exponentials are not divided by their sum": (z - z.amax(dim, keepdim=True)).exp(),
            "the exponential is missing": z / z.sum(dim, keepdim=True),
            "this is the logarithm of the softmax": F.log_softmax(z, dim),
        }
        equal(answer(z.clone(), dim), F.softmax(z, dim), what=f"shape {shape}, dim={dim}", mistakes=mistakes)

    near = torch.randn(3, 4).double()
    far_rows = near + torch.tensor([[0.0], [1e4], [-1e4]]).double()
    lonely, hidden = near.clone(), near.clone()
    lonely[1, 2] = 1e4
    hidden[:, 1] = -torch.inf
    for z, sentence in (
        (near + 1e4, "scores near 10 000: exp overflows to infinity; subtract the largest score first"),
        (far_rows, "one row far below the others: all its exponentials become 0; each row needs its own largest score"),
        (lonely, "one score of 10 000 beside small ones: subtract the largest score, not the mean or the smallest"),
        (hidden, "a score of minus infinity: its probability is 0, and the others are as if it were not there"),
    ):
        found = torch.as_tensor(answer(z.clone(), 1)).double()
        if not torch.allclose(found, F.softmax(z, 1), atol=1e-6):
            raise Wrong(sentence)
    return "right: it equals torch's, for scores of 10 000 and of minus infinity too"


@exercise("Which pair is hard, and does the bias help?")
def pairs(answer: Mapping[str, Any]) -> str:
    """``answer``: the ``"hardest"`` pair, its ``"accuracy"`` in percent, how many pairs are ``"better without"``."""
    keys = ("hardest", "accuracy", "better without")
    if isinstance(answer, Mapping) and set(answer) != set(keys):
        raise Wrong(f"expected a dictionary with the keys {', '.join(keys)}")
    names = answer["hardest"] if isinstance(answer, Mapping) else None
    open_pair = isinstance(names, Sequence) and any(name is None or name is ... for name in names)
    mapping({**answer, "hardest": None} if open_pair else answer, keys)
    table = _pair_accuracies()
    with_bias = {pair: accuracies["with"] for pair, accuracies in table.items()}
    hardest = min(with_bias, key=lambda pair: with_bias[pair])

    if not isinstance(names, Sequence) or len(names) != 2 or any(name not in CLASSES for name in names):
        raise Wrong(f"expected two names among {', '.join(CLASSES)}, got {names!r}")
    given = tuple(sorted(names, key=CLASSES.index))
    if given not in table:
        raise Wrong("expected two different garments")
    if given != hardest:
        harder = sum(accuracy < with_bias[given] for accuracy in with_bias.values())
        if harder == len(table) - 1:
            raise Wrong("this is the easiest pair; look for the lowest accuracy")
        raise Wrong(f"{' and '.join(given)}: {with_bias[given]:.1f} %, but {harder} of the 45 pairs are harder")

    accuracy, mine = finite(answer["accuracy"], "the accuracy"), table[hardest]
    if abs(accuracy - mine["with"]) > 0.6:
        if abs(100 * accuracy - mine["with"]) < 0.6:
            raise Wrong("the accuracy is asked in percent")
        if abs(accuracy - mine["without"]) < 0.6:
            raise Wrong("this is the accuracy without the bias")
        if abs(accuracy - mine["train"]) < 0.6:
            raise Wrong("this is the accuracy on the training images; measure on the test images")
        raise Wrong(f"for {' and '.join(hardest)}, expected {mine['with']:.1f} %, got {accuracy:.1f} %")

    gain = [row["with"] - row["without"] for row in table.values()]
    fewer, more, same = sum(g < 0 for g in gain), sum(g > 0 for g in gain), sum(g == 0 for g in gain)
    count = finite(answer["better without"], "how many pairs are better without")
    if count != int(count):
        raise Wrong(f"pairs are counted in whole numbers, got {count:g}")
    if abs(count - fewer) > 1:  # one image on the border may fall to either side
        if abs(count - more) <= 1:
            raise Wrong("these are the pairs in which the bias helps")
        if abs(count - fewer - same) <= 1:
            raise Wrong("equally good is not better")
        raise Wrong(f"expected {fewer} pairs that do better without the bias, got {count:.0f}")
    return f"right: the bias helps in {more} of 45 pairs, but halfway is not the best place for every pair"


@exercise("The slopes of softmax")
def softmax_slopes(answer: Callable[[Tensor, float], object]) -> str:
    """``answer(z, T)``: the matrix (K, K) of dp_i / dz_j for scores z at temperature T; compared with autograd."""
    for K, T in ((3, 1.0), (4, 2.5), (2, 0.4)):
        z = torch.randn(K).double()
        right = torch.autograd.functional.jacobian(lambda z, T=T: F.softmax(z / T, 0), z)
        p, cold = F.softmax(z / T, 0), F.softmax(z, 0)
        outer = torch.outer(p, p)
        mistakes = {
            "only the diagonal is there: p_i also falls when another score rises": torch.diag(p * (1 - p)) / T,
            "these are the slopes of K sigmoids; the sum in the denominator depends on every score": p * (1 - p) / T,
            "the sign is turned: p_i rises with its own score": -right,
            "the products p_i p_j are added; they are subtracted": (torch.diag(p) + outer) / T,
            "the diagonal lacks the p_i that comes from the numerator": -outer / T,
            "the factor 1 / T of the chain rule is missing": torch.diag(p) - outer,
            "multiplied by T; the chain rule divides": (torch.diag(p) - outer) * T,
            "p itself was computed without the temperature": (torch.diag(cold) - torch.outer(cold, cold)) / T,
            "the temperature is ignored": torch.diag(cold) - torch.outer(cold, cold),
        }
        equal(answer(z.clone(), T), right, what=f"{K} scores at T = {T}", mistakes=mistakes)
    return "right: rows and columns add up to 0, because probabilities can only be moved, not made"


def _stack(widths: list[int]) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b, device="meta") for a, b in itertools.pairwise(widths)))


def _pair_accuracies() -> dict[tuple[str, str], dict[str, float]]:
    """Percent right for each pair of garments: nearest mean (that is what the bias does), without bias, on train."""
    train, test = _by_class("train"), _by_class("test")
    means = [images.mean(0) for images in train]
    table = {}
    for i, j in itertools.combinations(range(len(CLASSES)), 2):
        centers = torch.stack([means[i], means[j]])
        shares: dict[str, list[Tensor]] = {"with": [], "without": [], "train": []}
        for own, images, seen in ((0, test[i], train[i]), (1, test[j], train[j])):
            shares["with"].append(torch.cdist(images, centers).argmin(1) == own)
            shares["without"].append((images @ (centers[0] - centers[1]) <= 0).long() == own)
            shares["train"].append(torch.cdist(seen, centers).argmin(1) == own)
        table[CLASSES[i], CLASSES[j]] = {
            name: 100 * torch.cat(found).double().mean().item() for name, found in shares.items()
        }
    return table


def _by_class(split: str) -> list[Tensor]:
    images, labels = fashion_mnist(split)
    return [images[labels == k].flatten(1).double() for k in range(len(CLASSES))]
