"""What the networks of chapter 3 cost, block by block: the data of the figure ``architecture``.

No training: each network is summarized without data (`cvbook.cost.summary`), and consecutive rows are put together
until a network has at most twenty blocks, whose totals are those of the summary.

Run: ``python -m cvbook.recipes.architectures`` (ten networks, ten seconds to a minute). It stores ``architectures``.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cvbook import cnns, weights
from cvbook.cost import Row, summary

__all__ = ["NETWORKS", "Network", "Part", "browse", "grouped", "main"]


class Part(NamedTuple):
    """A block: its name in the figure, the first row that belongs to it, and the module whose output it hands on.

    It ends where the next part begins. Without ``last`` the output is that of its last row.
    """

    label: str
    first: str
    last: str = ""


class Network(NamedTuple):
    """How to build a network, for which images ``(C, H, W)``, and its parts."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    parts: Sequence[Part]


COLOR = (3, 224, 224)


def _lenet() -> Network:
    names = ("C1", "S2", "C3", "S4", "C5", "F6", "output")
    firsts = ("features.0", "features.2", "features.3", "features.5", "classifier.0", "classifier.2", "classifier.4")
    return Network(cnns.lenet5, (1, 32, 32), [Part(*pair) for pair in zip(names, firsts, strict=True)])


def _alexnet() -> Network:
    rows = {
        "conv 1": 0, "pool 1": 3, "conv 2": 4, "pool 2": 7, "conv 3": 8, "conv 4": 10, "conv 5": 12, "pool 5": 14,
    }  # fmt: skip
    parts = [Part(label, f"features.{i}") for label, i in rows.items()]
    heads = [Part(f"FC {6 + i}", f"classifier.{3 * i}") for i in range(3)]
    return Network(lambda: cnns.alexnet(original=True), COLOR, [*parts, *heads])


def _vgg16() -> Network:
    parts, index = [], 0
    for stage, depth in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, depth + 1):
            parts.append(Part(f"conv {stage}-{i}", f"features.{index}"))
            index += 2
        index += 1  # the pooling belongs to the last convolution of its stage
    heads = [Part(f"FC {14 + i}", f"classifier.{3 * i}") for i in range(3)]
    return Network(cnns.vgg16, COLOR, [*parts, *heads])


def _googlenet() -> Network:
    parts = [Part("stem 1", "conv1.conv"), Part("stem 2", "conv2.conv")]
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if name in ("4a", "5a"):
            parts.append(Part(f"pool {int(name[0]) - 1}", f"maxpool{int(name[0]) - 1}"))
        parts.append(Part(f"inception {name}", f"inception{name}.branch1.conv", f"inception{name}"))
    return Network(lambda: cnns.googlenet(five=True), COLOR, [*parts, Part("mean", "avgpool"), Part("FC", "dropout")])


def _resnet(build: Callable[[], nn.Module], depths: Sequence[int]) -> Network:
    places = [(stage, i) for stage, depth in enumerate(depths) for i in range(depth)]
    parts = [Part(f"block {s + 1}-{i + 1}", f"stages.{s}.{i}.conv1", f"stages.{s}.{i}") for s, i in places]
    return Network(build, COLOR, [Part("stem", "conv1"), *parts, Part("mean", "avgpool"), Part("FC", "fc")])


def _mobile(build: Callable[[], nn.Module], blocks: int) -> Network:
    """MobileNetV2 and EfficientNet: a stem, blocks, a last convolution; the first block does not expand."""
    parts = [Part(f"block {i}", f"features.{i}", f"features.{i}") for i in range(1, blocks + 1)]
    last = Part("last conv", f"features.{blocks + 1}.0", f"features.{blocks + 1}")
    return Network(build, COLOR, [Part("stem", "features.0.0", "features.0"), *parts, last, Part("FC", "classifier")])


def _densenet121() -> Network:
    parts = [Part("stem", "features.0.0", "features.0")]
    for i, depth in enumerate((6, 12, 24, 16)):
        parts.append(Part(f"{depth} layers", f"features.{2 * i + 1}", f"features.{2 * i + 1}"))
        parts.append(Part("halve" if i < 3 else "norm", f"features.{2 * i + 2}", f"features.{2 * i + 2}"))
    return Network(cnns.densenet121, COLOR, [*parts, Part("FC", "classifier")])


def _convnext() -> Network:
    parts, index = [Part("stem", "features.0", "features.1")], 2
    for stage, depth in enumerate((3, 3, 9, 3), 1):
        for i in range(1, depth + 1):
            halves = stage > 1 and i == 1  # a normalization and a convolution before the block
            last = index + 2 if halves else index
            parts.append(Part(f"block {stage}-{i}", f"features.{index}", f"features.{last}"))
            index = last + 1
    return Network(cnns.convnext_tiny, COLOR, [*parts, Part("FC", "classifier")])


NETWORKS: dict[str, Network] = {
    "LeNet-5": _lenet(),
    "AlexNet (2012)": _alexnet(),
    "VGG-16": _vgg16(),
    "GoogLeNet": _googlenet(),
    "ResNet-18": _resnet(cnns.resnet18, (2, 2, 2, 2)),
    "ResNet-50": _resnet(cnns.resnet50, (3, 4, 6, 3)),
    "DenseNet-121": _densenet121(),
    "MobileNetV2": _mobile(cnns.mobilenet_v2, 17),
    "EfficientNet-B0": _mobile(cnns.efficientnet_b0, 16),
    "ConvNeXt-T": _convnext(),
}


def main(*, names: Sequence[str] = tuple(NETWORKS)) -> None:
    """Summarize, group and store; the argument shrinks the job for tests."""
    started = time.perf_counter()
    tensors, blocks, totals = {}, {}, {}
    for name in names:
        network = NETWORKS[name]
        with torch.device("meta"):
            model = network.build()
        rows = grouped(model, network.shape, network.parts)
        blocks[name] = [row[:2] for row in rows]
        tensors[name] = torch.tensor([row[2:] for row in rows])
        totals[name] = tensors[name][:, 3:5].sum(0).tolist()
    seconds = round(time.perf_counter() - started)
    weights.save(
        "architectures", tensors, recipe="cvbook.recipes.architectures", seed=None, seconds=seconds, blocks=blocks,
        metrics=totals,
    )  # fmt: skip


def browse(*names: str) -> list[dict[str, Any]]:
    """The state of the figure ``architecture``: one entry for each network, all of them without names.

    >>> lenet = browse("LeNet-5")[0]
    >>> lenet["name"], lenet["input"], lenet["blocks"][0]
    ('LeNet-5', [1, 32, 32], ['C1', 'conv 5×5', 6, 28, 28, 156, 117600, 4704, 5, 28])

    Raises:
        ValueError: for a name that is not in the list.
    """
    if unknown := [name for name in names if name not in NETWORKS]:
        raise ValueError(f"expected names among {', '.join(NETWORKS)}, got {unknown[0]!r}")
    tensors, words = weights.load("architectures"), weights.card("architectures")["blocks"]
    entries = []
    for name in names or NETWORKS:
        blocks = [text + numbers for text, numbers in zip(words[name], tensors[name].tolist(), strict=True)]
        entries.append({"name": name, "input": list(NETWORKS[name].shape), "blocks": blocks})
    return entries


def grouped(model: nn.Module, shape: tuple[int, int, int], parts: Sequence[Part]) -> list[list[Any]]:
    """The rows of ``summary(model, shape)``, put together part by part.

    Returns:
        For each part ``[label, layers, C, H, W, parameters, multiply-adds, activations, sees, works]``: ``layers`` says
        in words what it holds; ``C, H, W`` is its output, H = W = 1 for a vector; activations are the numbers that its
        convolutions and fully connected layers write; ``sees`` is the side of its receptive field in pixels, 0 for the
        whole image, -1 where it is not known; ``works`` is the side of the maps that its last convolution writes, which
        differs from H if the part ends with a pooling, and 0 without a convolution.

    Raises:
        ValueError: if there are no parts, a part names a module that the network has not, the first rows of the parts
            do not occur in this order, or rows come before the first part.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    >>> grouped(model, (3, 8, 8), [Part("conv", "0"), Part("head", "2")])
    [['conv', 'conv 3×3', 8, 6, 6, 224, 7776, 288, 3, 6], ['head', 'fully connected', 10, 1, 1, 2890, 2880, 10, 0, 0]]
    """
    known = dict(model.named_modules())
    if not parts or any(part.last and part.last not in known for part in parts):
        named = [part.last for part in parts if part.last and part.last not in known]
        raise ValueError(f"expected parts that end at modules of the network, got {named or 'no parts'}; name some")
    outputs = _outputs(model, shape)
    groups: list[list[Row]] = []
    waiting = list(parts)
    for row in summary(model, shape):
        if waiting and (row.name == waiting[0].first or row.name.startswith(waiting[0].first + ".")):
            waiting.pop(0)
            groups.append([])
        if not groups:
            raise ValueError(f"expected a first part that starts at {row.name!r}, got {parts[0].first!r}; start there")
        groups[-1].append(row)
    if waiting:
        raise ValueError(f"expected parts in the order of execution, got {waiting[0].first!r} late; look at summary")
    return [_block(model, outputs, part, rows) for part, rows in zip(parts, groups, strict=True)]


def _block(model: nn.Module, outputs: dict[str, tuple[int, ...]], part: Part, rows: list[Row]) -> list[Any]:
    size = outputs[part.last or rows[-1].name][1:]
    channels, height, width = size if len(size) == 3 else (math.prod(size), 1, 1)
    written = sum(math.prod(row.output_shape) for row in rows if row.multiply_adds)
    working = [row for row in rows if _layer(model, row)] or rows  # not the adaptive pooling that changes nothing
    fields = [max(row.receptive_field) if row.receptive_field else -1 for row in working]
    sees = 0 if math.inf in fields else int(max(fields))
    costs = [sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)]
    maps = [row.output_shape[-1] for row in rows if row.multiply_adds and len(row.output_shape) == 4]
    works = maps[-1] if maps else 0
    return [part.label, _words(model, rows), channels, height, width, *costs, written, sees, works]


def _words(model: nn.Module, rows: list[Row]) -> str:
    """What a block computes, without normalization and activation: ``2 × conv 3×3, max pooling 3×3 / 2``."""
    found = Counter(filter(None, (_layer(model, row) for row in rows)))
    return ", ".join(f"{count} × {words}" if count > 1 else words for words, count in found.items()) or "normalization"


def _layer(model: nn.Module, row: Row) -> str:
    layer = model.get_submodule(row.name)
    kernel, stride = (getattr(layer, key, 1) for key in ("kernel_size", "stride"))
    k, s = (value if isinstance(value, int) else value[0] for value in (kernel, stride))
    size = f"{k}×{k}" + (f" / {s}" if s > 1 else "")
    if isinstance(layer, nn.Conv2d):
        if row.output_shape[2:] == (1, 1):  # squeeze and excitation
            return f"conv {size} of the means"
        groups = "" if layer.groups == 1 else f", {layer.groups} groups"
        return f"depthwise {size}" if layer.groups == layer.in_channels > 1 else f"conv {size}{groups}"
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return ("max" if isinstance(layer, nn.MaxPool2d) else "average") + f" pooling {size}"
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return "global average pooling" if layer.output_size in (1, (1, 1)) else ""
    return "fully connected" if isinstance(layer, nn.Linear) else ""


def _outputs(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """The shape that each module returns, by name, from a run without data."""
    found: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: found.__setitem__(name, tuple(output.shape))

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    parameter = next(model.parameters(), torch.empty(0))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(torch.empty(1, *shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return found


if __name__ == "__main__":
    main()
