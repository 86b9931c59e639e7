"""What receptive_field must follow, leave alone, or refuse with a true sentence."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cvbook.convolution import fields
from cvbook.convolution.effective import effective_receptive_field
from cvbook.convolution.receptive import ReceptiveField, receptive_field


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


def windowed(x: Tensor, side: int) -> Tensor:
    """Self-attention within windows of side x side pixels."""
    B, C, H, W = x.shape
    tokens = x.view(B, C, H // side, side, W // side, side).permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, C)
    mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
    return mixed.view(B, H // side, W // side, side, side, C).permute(0, 5, 1, 3, 2, 4).reshape(B, C, H, W)


def layers_of_windows(x: Tensor) -> Tensor:
    x = F.avg_pool2d(x, 32)
    for _ in range(5):
        x = windowed(x, 8)
        x = windowed(x.roll((-4, -4), (2, 3)), 8).roll((4, 4), (2, 3))
    return x


def test_windows_with_a_field_beyond_the_size_that_is_taken_as_certain() -> None:
    module = Do(layers_of_windows)
    units = 8 + 9 * 8  # one window; each of the other nine layers adds half a window at each side
    assert receptive_field(module, (2, 256, 256)).size == (32 * units, 32 * units)


def test_dilated_convolutions_and_a_linear_layer_on_tokens_stay_small() -> None:
    net = nn.Sequential(*[nn.Conv2d(4, 4, 3, dilation=2**i, padding=2**i) for i in range(11)])
    tokens = Do(lambda x, mix: mix(x.flatten(2).mT).mT.unflatten(2, x.shape[2:]), nn.Linear(4, 4))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert receptive_field(nn.Sequential(net, tokens)).size == (4095, 4095)
    assert time.monotonic() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # kilobytes


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "MOST", 2**12)
    with pytest.raises(ValueError, match="fields have at most 4096 entries, got one of .*; measure"):
        receptive_field(Do(lambda x: x + x.transpose(2, 3)))


def test_a_field_that_grows_is_not_taken_from_one_of_two_sizes() -> None:
    def growing(x: Tensor) -> Tensor:
        if x.shape[2] > 1024 or x.shape[3] > 1024:
            raise RuntimeError("too large")
        return F.avg_pool2d(x, [n // 8 + 1 for n in x.shape[2:]], 1)

    with pytest.raises(ValueError, match="a growing part"):
        receptive_field(Do(growing), (3, 256, 256))


def test_fields_that_grow_with_the_other_axis_and_modules_for_squares() -> None:
    assert receptive_field(Do(lambda x: F.avg_pool2d(x, (x.shape[3] // 8, 1), 1))).size == (math.inf, 1)

    def through_tokens(x: Tensor) -> Tensor:
        tokens = F.avg_pool2d(x, 4).flatten(2)
        side = int(tokens.shape[2] ** 0.5)
        return F.avg_pool2d(tokens.reshape(1, -1, side, side), 3, 1)

    assert receptive_field(Do(through_tokens)).size == (12, 12)


class Stateful(nn.Module):
    """Changes itself in the ways that are asked for."""

    def __init__(self, change: Callable[[Stateful, Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.plain = torch.zeros(4)
        self.calls, self.shapes, self.cache = 0, [], {}
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.change(self, y)
        return y


def reassign(self: Stateful, y: Tensor) -> None:
    self.mean = 0.9 * self.mean + 0.1 * y.mean((0, 2, 3))


def add_in_place(self: Stateful, y: Tensor) -> None:
    self.mean.mul_(0.9).add_(y.mean((0, 2, 3)))
    self.plain.add_(y.mean((0, 2, 3)))


def count(self: Stateful, y: Tensor) -> None:
    self.calls += 1
    self.shapes.append(y.shape)
    self.cache[y.shape] = self.last = y


def clamp(self: Stateful, y: Tensor) -> None:
    with torch.no_grad():
        self.conv.weight.clamp_(-0.01, 0.01)


def look(self: Stateful, y: Tensor) -> None:
    if self.mean.sum() == 0:
        self.mean.fill_(1)


@pytest.mark.parametrize("change", [reassign, add_in_place, count, clamp, look])
def test_nothing_about_the_module_changes(change: Callable[[Stateful, Tensor], None]) -> None:
    net = nn.Sequential(Stateful(change), nn.AvgPool2d(2)).train()
    module = net[0]
    tensors = {name: (tensor, tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()}
    state = torch.random.get_rng_state()
    assert receptive_field(net).size == (4, 4)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert tensor is tensors[name][0]
        assert torch.equal(tensor, tensors[name][1])
    assert torch.equal(module.plain, torch.zeros(4))
    assert (module.calls, module.shapes, module.cache) == (0, [], {})
    assert not hasattr(module, "last")
    assert net.training
    assert net(torch.rand(1, 3, 8, 8)).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    assert receptive_field(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(dtype)).size == (3, 3)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x if not ctx.needs_input_grad[0] else x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.x = inputs[0]

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_pooling_of_channels_last() -> None:
    """Here torch sets strides itself."""
    head = Do(
        lambda x, norm: F.adaptive_avg_pool2d(norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 1), nn.LayerNorm(3)
    )
    assert receptive_field(head).whole_image
    mixed = Do(lambda x: F.adaptive_avg_pool2d(torch.cat([x[:, :2, 1:], x[:, :2, :-1]], 1).mT.contiguous(), (1, None)))
    assert receptive_field(mixed).size == (2, math.inf)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_custom_functions_and_checkpoints() -> None:
    assert receptive_field(Do(lambda x, c: Cube.apply(Square.apply(c(x))), nn.Conv2d(3, 3, 5))).size == (5, 5)
    for reentrant in (True, False):
        module = Do(lambda x, c, how=reentrant: checkpoint(c, x, use_reentrant=how), nn.Conv2d(3, 3, 5))
        assert receptive_field(module).size == (5, 5)
    x = torch.ones(1, requires_grad=True)
    assert Cube.apply(x).requires_grad  # apply is itself again


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_traced_modules() -> None:
    traced = torch.jit.trace(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), torch.rand(1, 4, 20, 20))
    assert receptive_field(traced).size == (3, 3)


def test_offsets_that_move_with_the_image_are_not_a_number() -> None:
    mirrored = receptive_field(Do(lambda x: F.avg_pool2d(x, 3, 1).flip(3)))
    assert mirrored.size == (3, 3)
    assert mirrored.stride == (1, -1)
    assert mirrored.offset[0] == 1
    assert math.isnan(mirrored.offset[1])
    assert math.isnan(receptive_field(Do(lambda x: x[:, :, x.shape[2] // 2 :])).offset[0])


area = Do(lambda x: F.interpolate(x, scale_factor=0.5, mode="area"))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (area, ReceptiveField((2, 2), (2, 2), (0.5, 0.5))),
        (nn.Sequential(nn.LogSigmoid(), nn.RReLU()), ReceptiveField((1, 1), (1, 1), (0, 0))),
        (Do(lambda x: F.avg_pool2d(x.rot90(1, (2, 3)), (3, 1), 1).rot90(-1, (2, 3))),
         ReceptiveField((1, 3), (1, 1), (0, 1))),
        (Do(lambda x: F.fold(F.unfold(x, (3, 2), stride=2, padding=1, dilation=(1, 2)),
                             x.shape[2:], (3, 2), stride=2, padding=1, dilation=(1, 2))),
         ReceptiveField((1, 1), (1, 1), (0, 0))),
        (Do(lambda x: (torch.ones(2, 27) @ F.unfold(x, 3, padding=1)).unflatten(2, x.shape[2:])),
         ReceptiveField((3, 3), (1, 1), (0, 0))),
        (Do(lambda x: x.kthvalue(2, 1, keepdim=True).values + x.cummax(1).values),
         ReceptiveField((1, 1), (1, 1), (0, 0))),
        (Do(lambda x: x.gather(1, x.argmax(1, keepdim=True))), ReceptiveField((1, 1), (1, 1), (0, 0))),
        (Do(lambda x: x.gather(2, torch.arange(1, x.shape[2], 2)[None, None, :, None].expand(1, 3, -1, x.shape[3]))),
         ReceptiveField((1, 1), (2, 1), (1, 0))),
        (Do(lambda x: x[:, :, torch.arange(x.shape[2]) % 2 == 1]), ReceptiveField((1, 1), (2, 1), (1, 0))),
        (Do(lambda x: F.interpolate(x, scale_factor=1 / 3, mode="bilinear", antialias=True)),
         ReceptiveField((5, 5), (3, 3), (1, 1))),
    ],
)  # fmt: skip
def test_more_operations(module: nn.Module, expected: ReceptiveField) -> None:
    field = receptive_field(module)
    assert field.size == expected.size
    assert field.stride == pytest.approx(expected.stride)
    assert field.offset == pytest.approx(expected.offset)


def test_antialiased_windows_equal_the_gradient() -> None:
    for mode, scale in (("bilinear", 1 / 3), ("bicubic", 1 / 3), ("bilinear", 0.25), ("bicubic", 1.5)):
        resize = Do(lambda x, m=mode, s=scale: F.interpolate(x, scale_factor=s, mode=m, antialias=True))
        x = torch.rand(1, 1, 96, 96, dtype=torch.float64, requires_grad=True)
        y = resize(x)
        seen = []
        for unit in range(10, 14):
            (gradient,) = torch.autograd.grad(y[0, 0, unit, unit], x, retain_graph=True)
            rows = (gradient[0, 0] != 0).any(1).nonzero()[:, 0]
            seen.append(int(rows[-1] - rows[0]) + 1)
        assert receptive_field(resize, (1, 96, 96)).size[0] == max(seen)


def missing(x: Tensor) -> Tensor:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.ModuleList([nn.Conv2d(3, 3, 3)]), "expected a module with a forward"),
        (Do(missing), "expected a module with a forward"),
        (Do(lambda x: x * x.sum().item()), "whatever the pixel values are"),
        (Do(lambda x: x if x.sum() > 0 else -x), "whatever the pixel values are"),
        (Do(lambda x: torch.from_numpy(x.numpy())), "whatever the pixel values are"),
        (Do(lambda x: x.as_strided((1, 3, 8, 8), (1, 2, 3, 4))), "got as_strided"),
        (Do(lambda x: x.clone().as_strided_((1, 3, 8, 8), (1, 2, 3, 4))), "got as_strided"),
        (Do(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)), "positions are data"),
        (Do(lambda x: x.gather(2, x.argsort(2))), "gather at fixed positions"),
        (Do(lambda x: torch.zeros_like(x).scatter(1, x.argsort(1), x)), "positions are data"),
    ],
)
def test_refusals_name_the_reason(module: nn.Module, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        receptive_field(module)


def test_the_first_operation_may_write_to_its_input() -> None:
    assert float(effective_receptive_field(nn.Sequential(nn.LeakyReLU(inplace=True)), (1, 9, 9))[4, 4]) == 1


@pytest.mark.parametrize(
    ("module", "images", "error", "message"),
    [
        (nn.Conv2d(1, 1, 3), 5, TypeError, "got int"),
        (nn.Conv2d(1, 1, 3), (1, 9.5, 9), ValueError, "positive integers"),
        (nn.Conv2d(1, 1, 3), (3, 9, 9), ValueError, "check their channels and size"),
        (nn.Conv2d(1, 1, 3), (1, 2, 2), ValueError, "check their channels and size"),
        (Do(torch.no_grad()(lambda x: 2 * x)), (1, 9, 9), ValueError, "remove no_grad"),
    ],
)
def test_effective_field_says_what_is_wrong(module, images, error, message) -> None:
    with pytest.raises(error, match=message):
        effective_receptive_field(module, images)
