"""MobileNetV2, EfficientNet and ConvNeXt against torchvision's: logits, gradients, sizes, initialization, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import StochasticDepth

from cvbook.cnns.convnext import ConvNeXt, convnext_base, convnext_large, convnext_small, convnext_tiny
from cvbook.cnns.efficientnet import (
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from cvbook.cnns.mobilenet_v2 import mobilenet_v2
from cvbook.cost import summary
from cvbook.transfer import load_torchvision

Builder = Callable[..., nn.Module]
BUILDERS: list[Builder] = [
    mobilenet_v2, efficientnet_b0, efficientnet_b1, efficientnet_b2, efficientnet_b3, efficientnet_b4, efficientnet_b5,
    efficientnet_b6, efficientnet_b7, convnext_tiny, convnext_small, convnext_base, convnext_large,
]  # fmt: skip
SMALL = [mobilenet_v2, efficientnet_b0, convnext_tiny]

every_builder = pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
one_of_each = pytest.mark.parametrize("builder", SMALL, ids=lambda b: b.__name__)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Layers this small run faster on one thread, above all if another worker has the other core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_meta(builder: Builder) -> nn.Module:
    with torch.device("meta"):
        return builder()


def randomize(model: nn.Module) -> None:
    """Weights that keep the signal's size, and normalizations that differ from the identity."""
    for key, value in model.state_dict().items():
        kind = key.split(".")[-1]
        if kind == "num_batches_tracked":
            value.zero_()
        elif kind == "running_var" or value.ndim == 3 or (kind == "weight" and value.ndim == 1):
            value.uniform_(0.5, 1.5)
        elif kind == "weight":
            value.normal_(std=(1.5 / value[0].numel()) ** 0.5)
        else:  # biases and running means
            value.normal_(std=0.1)


def pair(builder: Builder, theirs: Builder) -> tuple[nn.Module, nn.Module]:
    """Our network and torchvision's with the same random float64 numbers, matched by order, kind and shape.

    The parameters are shared and never initialized, which halves the memory and most of the time of the large ones.
    """
    torch.manual_seed(0)
    our, their = on_meta(builder).double().to_empty(device="cpu"), on_meta(theirs)
    randomize(our)
    a, b = our.state_dict(), their.state_dict()
    assert [(k.split(".")[-1], v.shape) for k, v in a.items()] == [(k.split(".")[-1], v.shape) for k, v in b.items()]
    shared = [value.clone() if "running" in key or "num_" in key else value for key, value in a.items()]
    their.load_state_dict(dict(zip(b, shared, strict=True)), assign=True)
    for module in (*our.modules(), *their.modules()):
        if isinstance(module, nn.Dropout | StochasticDepth):
            module.p = 0.0
    return our, their


def largest_difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@every_builder
def test_equals_torchvision(builder: Builder) -> None:
    our, their = pair(builder, getattr(tv, builder.__name__))
    our.eval(), their.eval()
    for height, width in ((48, 48), (33, 40)):
        x = torch.randn(1, 3, height, width, dtype=torch.float64)
        with torch.no_grad():
            logits = our(x)
            assert 1e-2 < logits.std() < 1e3
            assert largest_difference(logits, their(x)) <= 1e-9

    our.train(), their.train()
    x, direction = torch.randn(2, 3, 48, 48).double().requires_grad_(), torch.randn(2, 1000).double() / 1000
    (our(x) * direction).sum().backward()
    ours, x.grad = x.grad, None
    partner, compared = dict(zip(their.parameters(), our.parameters(), strict=True)), []

    def compare(parameter: nn.Parameter) -> None:
        """As soon as a gradient is there; then both are freed."""
        gradient = partner[parameter].grad
        assert gradient.any()
        assert largest_difference(gradient, parameter.grad) <= 1e-8
        compared.append(len(compared))
        partner[parameter].grad = parameter.grad = None

    hooks = [parameter.register_post_accumulate_grad_hook(compare) for parameter in partner]
    (their(x) * direction).sum().backward()
    for hook in hooks:  # they hold the networks in memory
        hook.remove()
    assert len(compared) == len(partner)
    assert largest_difference(ours, x.grad) <= 1e-8
    for a, b in zip(our.buffers(), their.buffers(), strict=True):  # the running statistics moved alike
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_builder
def test_parameters_and_multiply_adds_are_those_that_torchvision_states(builder: Builder) -> None:
    weights = tv.get_model_weights(builder.__name__).DEFAULT
    model = on_meta(builder).eval()
    assert sum(p.numel() for p in model.parameters()) == weights.meta["num_params"]
    side = weights.transforms().crop_size[0]
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side, device="meta"))
    assert counter.get_total_flops() / 2 / 1e9 == pytest.approx(weights.meta["_ops"], rel=0.01)


@every_builder
def test_dropout_stochastic_depth_and_normalization_are_torchvisions(builder: Builder) -> None:
    def settings(model: nn.Module) -> list[tuple[str, float | None]]:
        drops = [(type(m).__name__, m.p) for m in model.modules() if isinstance(m, nn.Dropout | StochasticDepth)]
        norms = [
            (m.eps, getattr(m, "momentum", None))
            for m in model.modules()
            if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)
        ]
        return [*drops, *norms]

    assert settings(on_meta(builder)) == settings(on_meta(getattr(tv, builder.__name__)))


@one_of_each
def test_load_torchvision_fills_it(builder: Builder) -> None:
    their = getattr(tv, builder.__name__)().eval()
    our, x = load_torchvision(builder(), their.state_dict()).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(our(x), their(x))


@one_of_each
def test_summary_counts_what_the_flop_counter_counts(builder: Builder) -> None:
    weights, table = tv.get_model_weights(builder.__name__).DEFAULT, summary(on_meta(builder), (3, 64, 64))
    with FlopCounterMode(display=False) as counter:
        on_meta(builder).eval()(torch.zeros(1, 3, 64, 64, device="meta"))
    assert table.parameters == weights.meta["num_params"]
    assert table.multiply_adds == counter.get_total_flops() / 2


@one_of_each
def test_the_same_seed_draws_torchvisions_first_weights(builder: Builder) -> None:
    """The layers are made and initialized in the same order, so that the random numbers agree one by one."""
    states = []
    for build in (builder, getattr(tv, builder.__name__)):
        torch.manual_seed(7)
        states.append(build().state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize("width", [0.35, 0.5, 1.4])
def test_width_of_mobilenet_v2(width: float) -> None:
    our, their = pair(lambda: mobilenet_v2(width=width), lambda: tv.mobilenet_v2(width_mult=width))
    our.eval(), their.eval()
    x = torch.randn(1, 3, 40, 56, dtype=torch.float64)
    with torch.no_grad():
        assert largest_difference(our(x), their(x)) <= 1e-9


@one_of_each
def test_classes_and_channels(builder: Builder) -> None:
    with torch.device("meta"):
        model = builder(num_classes=10, in_channels=1)
        assert model(torch.zeros(2, 1, 40, 32)).shape == (2, 10)


@one_of_each
def test_a_network_in_training_drops_blocks_and_features(builder: Builder) -> None:
    torch.manual_seed(0)
    model, x = builder(num_classes=5).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), model(x))
    for module in model.modules():
        if isinstance(module, nn.Dropout | StochasticDepth):
            module.train()
            module.p = 0.5
        elif hasattr(module, "layer_scale"):
            nn.init.ones_(module.layer_scale)
    assert not torch.equal(model(x), model(x))


@one_of_each
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(3, 64, 64), ValueError, r"expected images \(B, 3, H, W\), got \(3, 64, 64\)"),
        (torch.zeros(2, 1, 64, 64), ValueError, r"got \(2, 1, 64, 64\)"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), TypeError, "uint8"),
        (torch.zeros(2, 3, 64, 64).double(), TypeError, "float64"),
    ],
)
def test_bad_images(builder: Builder, x: Tensor, error: type[Exception], message: str) -> None:
    model = SMALL_MODELS.setdefault(builder.__name__, builder(num_classes=2))
    with pytest.raises(error, match=message):
        model(x)


SMALL_MODELS: dict[str, nn.Module] = {}


def test_convnext_needs_32_pixels() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="at least 32x32 pixels, got 31x40"):
        convnext_tiny()(torch.zeros(1, 3, 31, 40))


def test_convnext_with_fewer_stages_takes_smaller_images() -> None:
    model = ConvNeXt(blocks=(1, 2), widths=(8, 16), drop=0.1, num_classes=3, in_channels=1)
    assert model(torch.zeros(2, 1, 8, 9)).shape == (2, 3)
    with pytest.raises(ValueError, match="at least 8x8 pixels, got 7x9"):
        model(torch.zeros(2, 1, 7, 9))
    with pytest.raises(ValueError, match="expected a width for each depth"):
        ConvNeXt(blocks=(1, 1), widths=(8,), drop=0.0, num_classes=3, in_channels=1)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_width_must_be_positive(width: float) -> None:
    with pytest.raises(ValueError, match=f"expected a width multiplier > 0, got {width}; 1 is the full network"):
        mobilenet_v2(width=width)
    with pytest.raises(TypeError, match="expected width as a number, got '1'"):
        mobilenet_v2(width="1")  # type: ignore[arg-type]
