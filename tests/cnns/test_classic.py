"""LeNet to DenseNet: equal to torchvision's, and to the numbers and the words of the papers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cvbook import cnns, layers
from cvbook.cnns.alexnet import alexnet
from cvbook.cnns.densenet import DenseLayer, DenseNet, Transition
from cvbook.cnns.googlenet import Inception, googlenet
from cvbook.cnns.lenet import lenet5
from cvbook.cnns.resnet import BasicBlock, Bottleneck, ResNet
from cvbook.cnns.vgg import VGG
from cvbook.transfer import _pairs


class Case(NamedTuple):
    our: Callable[..., nn.Module]
    their: Callable[..., nn.Module]
    weights: str  # of torchvision, whose metadata tell the costs
    smallest: int


PLAIN = {"alexnet": 63, **dict.fromkeys(["vgg11", "vgg13", "vgg16", "vgg19"], 32)}
PLAIN |= dict.fromkeys(["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"], 1)
PLAIN |= dict.fromkeys(["densenet121", "densenet169", "densenet201"], 29)
CASES = {name: Case(getattr(cnns, name), getattr(tv, name), name, smallest) for name, smallest in PLAIN.items()}
for vgg in ("vgg11", "vgg13", "vgg16", "vgg19"):
    CASES[f"{vgg}_bn"] = Case(partial(getattr(cnns, vgg), batch_norm=True), getattr(tv, f"{vgg}_bn"), f"{vgg}_bn", 32)
for name, aux in (("googlenet", False), ("googlenet_aux", True)):
    their = partial(tv.googlenet, aux_logits=aux, init_weights=False)
    CASES[name] = Case(partial(googlenet, aux=aux), their, "" if aux else "googlenet", 15)

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Maps this small are faster on one thread, above all if another worker has the other core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    large.cache_clear()


def on_meta(builder: Callable[..., nn.Module], **options: int) -> nn.Module:
    with torch.device("meta"):
        return builder(**options)


@cache
def large(shape: tuple[int, ...]) -> Tensor:
    """Weights of the huge fully connected layers, drawn once for all networks that have them."""
    return torch.empty(shape, dtype=torch.float64).uniform_(-1, 1).mul_(math.sqrt(3 / shape[1]))


def numbers(name: str, like: Tensor) -> Tensor:
    """Weights that keep the signal's size, and normalizations that differ from the identity."""
    shape, kind = tuple(like.shape), name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    if like.numel() > 4_000_000:
        return large(shape)
    values = torch.empty(shape, dtype=torch.float64)
    if kind == "running_var":
        return values.uniform_(0.5, 1.5)
    if like.ndim == 1:
        return values.uniform_(0.3, 0.9) if kind == "weight" else values.normal_(std=0.1)
    return values.normal_(std=math.sqrt(2 / like[0].numel()))


def pair(case: Case) -> tuple[nn.Module, nn.Module]:
    """Our network and torchvision's with the same random float64 weights, and no dropout.

    The parameters are shared, which halves the memory and the time of the large ones; running statistics are not.
    """
    torch.manual_seed(0)
    our, their = on_meta(case.our), on_meta(case.their)
    state = {name: numbers(name, tensor) for name, tensor in our.state_dict().items()}
    pairs = _pairs(state, their.state_dict())
    our.load_state_dict(state, assign=True)
    buffers = dict(our.named_buffers())
    their.load_state_dict({b: state[a].clone() if a in buffers else state[a] for a, b in pairs}, assign=True)
    for module in (*our.modules(), *their.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return our, their


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """The logits, and with them those of the auxiliary classifiers, if there are any: ours first, then aux 1, aux 2."""
    result = network(x)
    if isinstance(result, tv.GoogLeNetOutputs):
        result = (result.logits, result.aux_logits1, result.aux_logits2)
    return torch.cat(result, 1) if isinstance(result, tuple) else result


@every_case
def test_equals_torchvision(case: Case) -> None:
    our, their = pair(case)
    side = max(case.smallest, 48)
    with torch.no_grad():
        our.eval(), their.eval()
        for height, width in ((side, side), (side + 1, side + 9)):
            x = torch.randn(1, 3, height, width, dtype=torch.float64)
            logits = our(x)
            assert 0.1 < logits.std() < 1e6
            assert (logits - their(x)).abs().max() <= 1e-9

    our.train(), their.train()
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    y = outputs(our, x)
    direction = torch.randn_like(y) / y.numel()
    (y * direction).sum().backward()
    found = [p.grad for p in (x, *our.parameters())]
    assert all(gradient is not None and gradient.any() for gradient in found)
    x.grad = None
    for parameter in our.parameters():
        parameter.grad = None
    seen = set()
    partner = dict(zip(their.parameters(), found[1:], strict=True))

    def compare(parameter: nn.Parameter) -> None:
        """As soon as a gradient is there; then both are dropped."""
        assert partner.pop(parameter).sub_(parameter.grad).abs_().max() <= 1e-8
        parameter.grad = None
        seen.add(parameter)

    hooks = [parameter.register_post_accumulate_grad_hook(compare) for parameter in their.parameters()]
    gradient_of_the_image = found.pop(0)
    found.clear()
    (outputs(their, x) * direction).sum().backward()
    for hook in hooks:
        hook.remove()
    assert not partner
    assert (gradient_of_the_image - x.grad).abs().max() <= 1e-8
    for a, b in zip(our.buffers(), their.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9, check_dtype=False)


@every_case
def test_dropout_and_normalization_are_torchvisions(case: Case) -> None:
    def settings(model: nn.Module) -> list[tuple[float, ...]]:
        parts = [m for m in model.modules() if isinstance(m, nn.Dropout | nn.BatchNorm2d)]
        return [(m.p,) if isinstance(m, nn.Dropout) else (m.eps, m.momentum) for m in parts]

    assert settings(on_meta(case.our)) == settings(on_meta(case.their))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.weights])
def test_costs_are_those_in_torchvisions_metadata(name: str) -> None:
    case = CASES[name]
    weights = tv.get_model_weights(case.weights).DEFAULT
    side = weights.transforms().crop_size[0]
    model = on_meta(case.our).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    assert sum(p.numel() for p in model.parameters()) == weights.meta["num_params"]
    assert counter.get_total_flops() / 2e9 == pytest.approx(weights.meta["_ops"], rel=0.01)


@pytest.mark.parametrize("name", [name for name in cnns.__all__ if name != "efficientnet_lite0"])
def test_classes_and_channels(name: str) -> None:
    model = on_meta(getattr(cnns, name), num_classes=7, in_channels=5).eval()
    side = 28 if name == "lenet5" else 64
    assert model(torch.empty(2, 5, side, side, device="meta")).shape == (2, 7)
    with pytest.raises(ValueError, match=r"expected images \(B, 5, H, W\), got \(2, 3, 64, 64\); or build .*=3"):
        model(torch.empty(2, 3, 64, 64, device="meta"))


@pytest.mark.parametrize("name", cnns.__all__)
def test_builders_refuse_what_is_no_number_of_classes_or_channels(name: str) -> None:
    build = getattr(cnns, name)
    for bad, error in ((0, ValueError), (-1, ValueError), ("10", TypeError), (True, TypeError), (2.0, TypeError)):
        for option in ("num_classes", "in_channels"):
            with pytest.raises(error, match=f"expected {option} .*got {bad!r}; "):
                on_meta(build, **{option: bad})


def test_stages_that_do_not_match_are_refused() -> None:
    for build in (partial(VGG, (1, 1)), partial(ResNet, BasicBlock, (1, 1))):
        with pytest.raises(ValueError, match=r"expected a width for each depth, got depths \(1, 1\) and widths \(8,\)"):
            build(widths=(8,))
    with pytest.raises(ValueError, match="expected a width for each depth"):
        DenseNet(())


@every_case
def test_smallest_image(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = on_meta(case.our).eval(), torch.empty(1, 3, 80, 80, device="meta")
    assert model(image[..., : case.smallest, : case.smallest]).shape == (1, 1000)
    if case.smallest == 1:
        return
    n = case.smallest - 1
    with pytest.raises(ValueError, match=rf"at least {case.smallest}x{case.smallest} pixels, got {n}x80"):
        model(image[..., :n, :])
    monkeypatch.setattr(sys.modules[type(model).__module__], "check_images", lambda *_, **__: None)
    with pytest.raises(RuntimeError):  # so the check refuses no more than it must
        model(image[..., :n, :])


@pytest.mark.parametrize(
    "model",
    [lenet5(), lenet5(original=True), googlenet(five=True, aux=True, num_classes=3), alexnet(original=True)],
    ids=["lenet5", "lenet5 original", "googlenet five", "alexnet original"],
)
def test_every_parameter_gets_a_gradient(model: nn.Module) -> None:
    torch.manual_seed(0)
    side = 28 if model.in_channels == 1 else 64
    outputs(model.train(), torch.randn(4, model.in_channels, side, side)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# LeNet-5


@pytest.mark.parametrize("original", [False, True])
def test_lenet_has_the_parameters_of_the_paper(original: bool) -> None:
    """Section II.B, but for C3, which is complete here, for S2 and S4, and for the last layer."""
    model = lenet5(original=original)
    counts = [parameters(layer) for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert counts == [156, 2_416, 48_120, 10_164, 850]
    assert parameters(model) == sum(counts) == 61_706
    kinds = {type(layer) for layer in model.modules()}
    assert (nn.Tanh in kinds, nn.AvgPool2d in kinds) == (original, original)
    assert (nn.ReLU in kinds, nn.MaxPool2d in kinds) == (not original, not original)


@pytest.mark.parametrize("original", [False, True])
def test_lenet_written_out(original: bool) -> None:
    """A second route through the same weights: the functional calls, one after the other."""
    torch.manual_seed(0)
    model, x = lenet5(original=original).double(), torch.randn(2, 1, 32, 32, dtype=torch.float64)
    c1, c3, c5, f6, last = (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    squash, pool = (torch.tanh, F.avg_pool2d) if original else (torch.relu, F.max_pool2d)
    y = pool(squash(F.conv2d(x, c1.weight, c1.bias)), 2)
    y = pool(squash(F.conv2d(y, c3.weight, c3.bias)), 2)
    y = squash(F.conv2d(y, c5.weight.view(120, 16, 5, 5), c5.bias)).flatten(1)  # as the paper has it
    y = squash(F.linear(y, f6.weight, f6.bias))
    torch.testing.assert_close(model(x), F.linear(y, last.weight, last.bias))


def test_lenet_centers_smaller_images_in_its_frame() -> None:
    torch.manual_seed(0)
    model, digit = lenet5().eval(), torch.rand(2, 1, 28, 30)
    frame = torch.zeros(2, 1, 32, 32)
    frame[:, :, 2:30, 1:31] = digit
    assert torch.equal(model(digit), model(frame))
    with pytest.raises(ValueError, match="at least 28x28 pixels, got 27x28"):
        model(digit[..., 1:, :28])
    with pytest.raises(ValueError, match="at most 32x32 pixels, got 33x32"):
        model(torch.zeros(1, 1, 33, 32))


# AlexNet


def test_two_towers_have_the_parameters_of_2012() -> None:
    model = on_meta(alexnet, original=True)
    assert parameters(model) == 60_965_224
    assert parameters(on_meta(alexnet)) == 61_100_840
    assert parameters(model.classifier) / parameters(model) == pytest.approx(0.96, abs=0.005)


@pytest.mark.parametrize("side", [224, 227])
def test_two_towers_have_the_maps_of_2012(side: int) -> None:
    """Figure 2: 55, 27 and 13 pixels wide, and 6 after the last pooling."""
    model, x, sides = on_meta(alexnet, original=True), torch.empty(1, 3, side, side, device="meta"), []
    for layer in model.features:
        x = layer(x)
        sides.append(x.shape[2])
    assert list(dict.fromkeys(sides)) == ([55, 27, 13, 6] if side == 224 else [56, 27, 13, 6])


def test_two_towers_written_out() -> None:
    """Each tower with its own kernels; the third convolution gets the maps of both."""
    torch.manual_seed(0)
    model = on_meta(alexnet, original=True)
    features = model.features.to_empty(device="cpu").double()
    for parameter in features.parameters():
        nn.init.normal_(parameter, std=0.05)
    convs = [m for m in features if isinstance(m, nn.Conv2d)]
    x = y = torch.randn(1, 3, 70, 64, dtype=torch.float64)
    for i, conv in enumerate(convs):
        step, border = (4, 2) if i == 0 else (1, conv.kernel_size[0] // 2)
        towers = [y, y] if i in (0, 2) else y.chunk(2, 1)
        halves = zip(towers, conv.weight.chunk(2), conv.bias.chunk(2), strict=True)
        y = torch.cat([F.conv2d(t, weight, bias, step, border) for t, weight, bias in halves], 1).relu()
        if i < 2:
            y = layers.local_response_norm(y)
        if i in (0, 1, 4):
            y = F.max_pool2d(y, 3, 2)
    torch.testing.assert_close(features(x), y)
    assert [type(m) for m in model.classifier] == [*[nn.Linear, nn.ReLU, nn.Dropout] * 2, nn.Linear]
    assert {m.p for m in model.classifier if isinstance(m, nn.Dropout)} == {0.5}


def test_two_towers_are_apart_until_the_third_convolution() -> None:
    torch.manual_seed(0)
    model = alexnet(original=True).eval()
    norm, second, third = model.features[2], model.features[4], model.features[8]
    x = torch.randn(1, 96, 9, 9, requires_grad=True)
    second(x)[:, :128].sum().backward()
    assert x.grad[:, :48].any()
    assert not x.grad[:, 48:].any()
    assert third.groups == 1
    torch.testing.assert_close(norm(x), layers.local_response_norm(x))  # alpha as the paper defines it


# VGG


def test_vgg_takes_other_depths_and_widths() -> None:
    model = VGG((1, 2, 1), widths=(4, 8, 8), hidden=16, batch_norm=True, num_classes=5, in_channels=1)
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [4, 8, 8, 8]
    assert model(torch.zeros(2, 1, 8, 9)).shape == (2, 5)
    with pytest.raises(ValueError, match="at least 8x8"):
        model(torch.zeros(2, 1, 7, 9))


# GoogLeNet


@pytest.mark.parametrize(("aux", "count"), [(False, 6_998_552), (True, 13_378_280)])
def test_googlenet_has_the_parameters_of_the_paper(aux: bool, count: int) -> None:
    """Table 1 with 5x5 kernels; the paper's convolutions have a bias where these have batch normalization."""
    model = on_meta(googlenet, aux=aux, five=True)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert parameters(model) - sum(norm.num_features for norm in norms) == count


def test_googlenet_has_22_layers_with_parameters() -> None:
    """Section 5 counts 22 layers: along the longest path."""
    model = on_meta(googlenet)
    inceptions = [m for m in model.modules() if isinstance(m, Inception)]
    assert 3 + 2 * len(inceptions) + 1 == 22
    assert [m.branch1.conv.in_channels for m in inceptions] == [192, 256, 480, 512, 512, 512, 528, 832, 832]


@pytest.mark.parametrize("training", [False, True])
def test_googlenet_on_images_normalized_as_the_docstring_says(training: bool) -> None:
    """torchvision's network for its trained weights takes ImageNet's mean and deviation, and changes them to 0.5."""
    their = partial(tv.googlenet, aux_logits=True, init_weights=False, transform_input=True)
    our, their = pair(Case(partial(googlenet, aux=True), their, "", 15))
    imagenet = torch.tensor([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)], dtype=torch.float64)
    mean, deviation = imagenet[:, :, None, None]  # (3, 1, 1) each
    image = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        ours = outputs(our.train(training), (image - 0.5) / 0.5)
        theirs = outputs(their.train(training), (image - mean) / deviation)
    assert (ours - theirs).abs().max() <= 1e-9


def test_auxiliary_classifiers_answer_only_in_training() -> None:
    model = on_meta(googlenet, aux=True, num_classes=4)
    x = torch.empty(2, 3, 64, 64, device="meta")
    assert [y.shape for y in model.train()(x)] == [(2, 4)] * 3
    assert model.eval()(x).shape == (2, 4)
    assert on_meta(googlenet).train()(x).shape == (2, 1000)


# ResNet


@pytest.mark.parametrize("n", [3, 5, 7, 9, 18])
def test_plain_and_residual_networks_for_small_images(n: int) -> None:
    """Section 4.2 and table 6: 6n + 2 layers; 0.27, 0.46, 0.66, 0.85 and 1.7 million parameters."""
    build = partial(ResNet, BasicBlock, (n, n, n), widths=(16, 32, 64), small_images=True, num_classes=10)
    plain, residual = on_meta(build, residual=False), on_meta(build)
    millions = {3: 0.27, 5: 0.46, 7: 0.66, 9: 0.85, 18: 1.7}[n]
    assert parameters(plain) / 1e6 == pytest.approx(millions, rel=0.03)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in plain.modules()) == 6 * n + 2
    assert parameters(residual) - parameters(plain) == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64  # two projections
    image = torch.empty(2, 3, 32, 32, device="meta")
    assert residual.stages(residual.maxpool(residual.conv1(image))).shape == (2, 64, 8, 8)
    assert plain(image).shape == (2, 10)


@pytest.mark.parametrize("block", [BasicBlock(8, 8), Bottleneck(32, 8)], ids=lambda b: type(b).__name__)
def test_block_without_its_branch_is_a_relu(block: nn.Module) -> None:
    last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
    nn.init.zeros_(last.weight)
    x = torch.randn(2, block.conv1.in_channels, 5, 5)
    assert torch.equal(block(x), x.relu())
    plain = type(block)(x.shape[1], 8, residual=False)
    nn.init.zeros_((plain.bn2 if isinstance(block, BasicBlock) else plain.bn3).weight)
    assert not plain(x).any()


def test_grouped_bottleneck_costs_what_the_narrow_one_costs() -> None:
    """ResNeXt, table 1 and section 3.3: 32 groups of width 4 have about the parameters of one of width 64."""
    counts = [
        sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))
        for block in (Bottleneck(256, 64), Bottleneck(256, 64, groups=32, group_width=4))
    ]
    assert counts == [256 * 64 + 9 * 64 * 64 + 64 * 256, 256 * 128 + 9 * 4 * 128 + 128 * 256]
    assert counts == pytest.approx([70_000, 70_000], rel=0.01)


# DenseNet


def test_dense_layer_hands_on_what_it_got() -> None:
    layer, x = DenseLayer(6, 3), torch.randn(2, 6, 5, 5)
    y = layer(x)
    assert y.shape == (2, 9, 5, 5)
    assert torch.equal(y[:, :6], x)
    assert Transition(6)(torch.zeros(2, 6, 5, 5)).shape == (2, 3, 2, 2)


def test_densenet_for_small_images() -> None:
    """Table 2: DenseNet-BC with 100 layers and growth rate 12 has 0.8 million parameters."""
    model = on_meta(partial(DenseNet, (16, 16, 16), growth=12, small_images=True), num_classes=10)
    assert parameters(model) / 1e6 == pytest.approx(0.8, abs=0.05)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 100
    assert model(torch.empty(2, 3, 4, 4, device="meta")).shape == (2, 10)
    with pytest.raises(ValueError, match="at least 4x4"):
        model(torch.empty(2, 3, 3, 3, device="meta"))


# Initialization


def test_weights_start_as_torchvisions() -> None:
    torch.manual_seed(0)
    compare_spread(googlenet(), tv.googlenet(aux_logits=False, init_weights=True))
    compare_spread(ResNet(Bottleneck, (1, 1, 1, 1)), tv.ResNet(tv.resnet.Bottleneck, [1, 1, 1, 1]))
    compare_spread(DenseNet((2, 1)), tv.DenseNet(block_config=(2, 1)))


def test_vgg_weights_start_as_torchvisions() -> None:
    """By its rule: to build its network would draw a hundred million numbers."""
    torch.manual_seed(0)
    for layer in VGG((1, 1), widths=(64, 512), hidden=64).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spread = math.sqrt(2 / (9 * layer.out_channels)) if isinstance(layer, nn.Conv2d) else 0.01
            assert layer.weight.std().item() == pytest.approx(spread, rel=6 / math.sqrt(layer.weight.numel()))
            assert not layer.bias.any()


def compare_spread(our: nn.Module, their: nn.Module) -> None:
    for a, b in _pairs(our.state_dict(), their.state_dict()):
        x, y = our.state_dict()[a].double(), their.state_dict()[b].double()
        tolerance = 6 / math.sqrt(x.numel())
        spread = x.std(correction=0).item()
        assert spread == pytest.approx(y.std(correction=0).item(), rel=tolerance), a
        assert abs(x.mean() - y.mean()) <= tolerance * spread, a
