"""Deep plain and residual networks for the lesson "ResNet": trained, taken apart, and their loss in the neighborhood.

``python -m cvbook.recipes.residual`` (about half an hour on one CPU core) stores ``residual``, a table of everything
measured, and ``residual_20`` and ``residual_56``, the networks of seed 0 in half precision. Whatever is measured after
training is measured with weights rounded to half precision, so that it can be measured again with the stored ones.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook import weights
from cvbook._arguments import whole
from cvbook.cnns.resnet import BasicBlock, ResNet
from cvbook.data import fashion_mnist
from cvbook.train import accuracy, fit, warmup_cosine

KINDS = {"plain": False, "residual": True}
DEPTHS = (56, 20, 8, 38)
BATCH = 64
SIDE = 1.0  # slices go from -SIDE to SIDE: to a step as long, filter by filter, as the weights themselves


def network(kind: str, depth: int, *, seed: int = 0) -> ResNet:
    """``(depth - 2) / 6`` blocks in each of three stages, 8, 16 and 32 wide, for grey images.

    Where the shape changes, shortcuts are projections (He et al. 2015 pad with zeros there, section 4.2).

    Args:
        kind: ``"residual"``, or ``"plain"`` for the same layers without shortcuts.
        depth: layers with weights, projections not counted: 8, 14, 20 and so on.
        seed: of the weights.

    Raises:
        ValueError: for another kind, or a depth that is not ``6 n + 2``.
    """
    if kind not in KINDS:
        raise ValueError(f"expected kind to be one of {', '.join(map(repr, KINDS))}, got {kind!r}; use one of them")
    n, rest = divmod(whole("depth", depth) - 2, 6)
    if n < 1 or rest:
        raise ValueError(f"expected a depth of 6 n + 2 layers, got {depth}; use 8, 14, 20 and so on")
    torch.manual_seed(seed)
    return ResNet(
        BasicBlock, (n, n, n), widths=(8, 16, 32), small_images=True, residual=KINDS[kind], num_classes=10,
        in_channels=1,
    )  # fmt: skip


def garments(split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first images, halved to 14x14 pixels so that depth 56 is affordable, and their labels.

    Raises:
        ValueError: if the split does not have ``count`` images, or ``count`` is less than 1.
    """
    images, labels = fashion_mnist(split)
    if not 1 <= whole("count", count) <= len(images):
        raise ValueError(f"expected a count from 1 to {len(images)}, got {count}; ask for so many")
    return F.avg_pool2d(images[:count], 2), labels[:count]


def train(model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, seed: int) -> Tensor:
    """SGD at rate 0.1; returns the training error of each epoch, a share, counted while the weights move.

    The rate rises over the first 5 % of the steps, then falls along half a cosine. There is no momentum: with 0.9
    the plain network of depth 56 learned nothing at all at this rate. One rate for all depths, tuned for none.

    Raises:
        ValueError: for less than one epoch.
    """
    if whole("epochs", epochs) < 1:
        raise ValueError(f"expected at least 1 epoch, got {epochs}; train for one or more")
    wrong: list[Tensor] = []

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        wrong.append((logits.argmax(1) != target).float().mean())
        return F.cross_entropy(logits, target)

    sgd = functools.partial(torch.optim.SGD, lr=0.1, weight_decay=1e-4)
    fit(
        model, images, labels, epochs=epochs, batch_size=BATCH, seed=seed, loss=loss, optimizer=sgd,
        schedule=warmup_cosine, channels_last=True, progress=False,
    )  # fmt: skip
    return torch.stack(wrong).view(epochs, -1).mean(1)


def blocks(model: ResNet) -> list[Any]:
    """All blocks, in order."""
    return [block for stage in model.stages for block in stage]  # type: ignore[attr-defined]


def bypass(block: Any, x: Tensor) -> Tensor:
    """What a block computes without its convolutions: the shortcut.

    A plain block has none. Where its shape stays, the input goes through; where the shape changes, every second pixel
    does, and the new channels are zero.
    """
    if block.residual:
        return F.relu(x if block.downsample is None else block.downsample(x))
    step = block.conv1.stride[0]
    return F.pad(x[:, :, ::step, ::step], (0, 0, 0, 0, 0, block.out_channels - x.shape[1]))


@torch.no_grad()
def every_subset(model: ResNet, images: Tensor, labels: Tensor) -> Tensor:
    """How many images each of the ``2 ** n`` networks gets right that keep some blocks of ``n`` and bypass the others.

    Bit ``i`` of the index says whether block ``i`` is kept. Subsets that begin alike share what they compute. The
    model is left in eval mode.
    """
    parts = blocks(model.eval())
    found = torch.zeros(2 ** len(parts), dtype=torch.int32)

    def walk(x: Tensor, i: int, index: int) -> None:
        if i == len(parts):
            found[index] = (head(model, x).argmax(1) == labels).sum()
            return
        walk(parts[i](x), i + 1, index | 1 << i)
        walk(bypass(parts[i], x), i + 1, index)

    walk(stem(model, images), 0, 0)
    return found


@torch.no_grad()
def single_deletions(model: ResNet, images: Tensor, labels: Tensor) -> Tensor:
    """How many images are right without block 0, without block 1, and so on; at last with all blocks.

    The model is left in eval mode.
    """
    parts = blocks(model.eval())
    found = []
    for deleted in range(len(parts) + 1):
        x = stem(model, images)
        for i, block in enumerate(parts):
            x = bypass(block, x) if i == deleted else block(x)
        found.append((head(model, x).argmax(1) == labels).sum())
    return torch.stack(found).int()


def stem(model: ResNet, images: Tensor) -> Tensor:
    """What goes into the first block."""
    return model.relu(model.bn1(model.conv1(images)))


def head(model: ResNet, x: Tensor) -> Tensor:
    """Logits from what comes out of the last block."""
    return model.fc(model.avgpool(x).flatten(1))


def direction(model: nn.Module, *, seed: int) -> list[Tensor]:
    """A random direction, each filter as long as the model's (Li et al. 2018, section 4); zero for vectors.

    Vectors are the biases, and scale and offset of batch normalization.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for p in model.parameters():
        d = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            d.zero_()
        else:
            d *= (p.detach().flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1)).view(-1, *[1] * (p.ndim - 1))
        parts.append(d)
    return parts


@torch.no_grad()
def losses(
    model: nn.Module, directions: Sequence[list[Tensor]], steps: Tensor, images: Tensor, labels: Tensor
) -> Tensor:
    """The loss at ``weights + a * d`` for all ``a`` in ``steps``, or for all pairs if there are two directions.

    Batch normalization takes the statistics of the batch, as in training.
    """
    moved = copy.deepcopy(model).train()
    start = [p.detach().clone() for p in model.parameters()]
    points = torch.cartesian_prod(*[steps] * len(directions)).view(-1, len(directions))
    found = []
    for point in points:
        for i, p in enumerate(moved.parameters()):
            p.copy_(start[i] + sum(float(a) * d[i] for a, d in zip(point, directions, strict=True)))
        found.append(F.cross_entropy(moved(images), labels))
    return torch.stack(found).view([len(steps)] * len(directions))


def main(
    *,
    count: int = 4_000,
    tested: int = 2_000,
    epochs: int = 8,
    depths: Sequence[int] = DEPTHS,
    seeds: int = 2,
    near: int = 1_000,
    points: int = 17,
) -> None:
    """Train, measure and store; the arguments shrink the job for tests. Depths 20 and 56 are kept and taken apart."""
    images, labels = garments("train", count)
    test_images, test_labels = garments("test", tested)
    some, few = (images[:near], labels[:near]), (images[: near // 2], labels[: near // 2])
    steps = torch.linspace(-SIDE, SIDE, points)
    started = time.perf_counter()
    table: dict[str, Tensor] = {}
    metrics: dict[str, list[list[float]]] = {}
    facts: dict[str, Any] = {
        "recipe": "cvbook.recipes.residual", "images": count, "epochs": epochs, "batch_size": BATCH, "tested": tested,
    }  # fmt: skip
    for seed in range(seeds):
        for depth in depths:
            states: dict[str, Tensor] = {}
            for kind in KINDS:
                model = network(kind, depth, seed=seed)
                table[f"error.{kind}.{depth}.{seed}"] = train(model, images, labels, epochs=epochs, seed=seed)
                model.half().float()
                states |= {f"{kind}.{k}": v.half() for k, v in model.state_dict().items() if v.is_floating_point()}
                row = [1 - accuracy(model, images, labels), accuracy(model, test_images, test_labels)]
                metrics.setdefault(f"{kind} {depth}", []).append([round(x, 4) for x in row])
                print(kind, depth, seed, row, round(time.perf_counter() - started), flush=True)
                if depth == 20:
                    table[f"subsets.{kind}.{seed}"] = every_subset(model, test_images, test_labels)
                if depth == 56:
                    table[f"single.{kind}.{seed}"] = single_deletions(model, test_images, test_labels)
                if depth in (20, 56) and seed == 0:
                    ways = [direction(model, seed=s) for s in range(3)]
                    table[f"slice.{kind}.{depth}"] = torch.stack([losses(model, [way], steps, *some) for way in ways])
                if depth == 56 and seed == 0:
                    table[f"surface.{kind}"] = losses(model, ways[:2], steps, *few)
            seconds = round(time.perf_counter() - started)
            if depth in (20, 56) and seed == 0:
                mine = {kind: metrics[f"{kind} {depth}"][0] for kind in KINDS}
                weights.save(f"residual_{depth}", states, seed=0, seconds=seconds, metrics=mine, **facts)
            weights.save("residual", table, seed=list(range(seed + 1)), seconds=seconds, metrics=metrics, **facts)


if __name__ == "__main__":
    main()
