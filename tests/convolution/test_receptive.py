"""The analysis against the gradient of networks with positive weights, on generated networks and on known ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models as models
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvbook.convolution.dependence import CircularPadding, Dependence
from cvbook.convolution.fields import NothingSeen
from cvbook.convolution.receptive import ReceptiveField, effective_receptive_field, receptive_field

C = 4  # channels of all generated networks


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Join(nn.Module):
    """Branches, cropped to the smallest, added or concatenated and mixed."""

    def __init__(self, *branches, how):
        super().__init__()
        self.branches, self.how = nn.ModuleList(branches), how
        self.mix = nn.Conv2d(C * len(branches), C, 1)

    def forward(self, x):
        maps = [branch(x) for branch in self.branches]
        h, w = min(m.shape[2] for m in maps), min(m.shape[3] for m in maps)
        maps = [m[:, :, :h, :w] for m in maps]
        return sum(maps) if self.how == "add" else self.mix(torch.cat(maps, 1))


class SumPool(nn.Module):
    """The windows of a maximum pooling with a gradient for each pixel in them."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        p = self.pool
        h, w = F.max_pool2d(x, p.kernel_size, p.stride, p.padding, p.dilation, p.ceil_mode).shape[2:]
        more = p.kernel_size * p.dilation + p.stride
        x = F.pad(x, (p.padding, more, p.padding, more))
        ones = torch.ones(C, 1, p.kernel_size, p.kernel_size, dtype=x.dtype)
        return F.conv2d(x, ones, stride=p.stride, dilation=p.dilation, groups=C)[:, :, :h, :w]


def pair(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def conv(kernel, stride, padding, dilation, groups, mode):
    return nn.Conv2d(C, C, kernel, stride, padding, dilation, groups, padding_mode=mode)


simple = st.one_of(
    st.builds(conv, pair(1, 4), pair(1, 3), pair(0, 2), pair(1, 2), st.sampled_from([1, 2, C]), st.just("zeros")),
    st.builds(
        conv, pair(1, 3), pair(1, 2), pair(0, 1), pair(1, 2), st.just(1),
        st.sampled_from(["reflect", "replicate", "circular"]),
    ),
    st.builds(
        nn.MaxPool2d, st.integers(2, 3), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2),
        ceil_mode=st.booleans(),
    ),
    st.builds(nn.AvgPool2d, pair(1, 3), pair(1, 2), ceil_mode=st.booleans()),
    st.builds(nn.ConvTranspose2d, st.just(C), st.just(C), st.integers(2, 4), st.integers(1, 2), st.integers(0, 1)),
    st.builds(nn.Upsample, scale_factor=st.sampled_from([2, 1.5]), mode=st.sampled_from(["nearest", "bilinear"])),
    st.sampled_from([
        Do(lambda x: x[:, :, 1:-1, ::2]), Do(lambda x: x.roll((1, 2), (2, 3))), Do(lambda x: F.channel_shuffle(x, 2)),
        Do(lambda x: torch.cat([x[:, :2], F.avg_pool2d(x[:, 2:], 3, 1, 1)], 1)), nn.BatchNorm2d(C), nn.ReLU(),
        Do(lambda x: x.flip(1).clone().relu_() + 1), nn.ZeroPad2d((1, 0, 2, 0)),
        Do(lambda x: torch.stack(x.unbind(1), 1).repeat(1, 2, 1, 1)[:, [0, 2, 5, 7]]),
        Do(lambda x: F.pixel_shuffle(F.avg_pool2d(F.pad(x, (1,) * 4).repeat_interleave(4, 1), 3, 1), 2)),
        Do(lambda x: (x.flatten(2).mT @ torch.ones(C, C).to(x)).mT.reshape(x.shape)),
    ]),
)  # fmt: skip
networks = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: nn.Sequential(*parts)),
        st.builds(lambda a, b, how: Join(a, b, how=how), inner, inner, st.sampled_from(["add", "cat"])),
        st.builds(lambda a: Join(nn.Identity(), a, how="add"), inner),
    ),
    max_leaves=4,
)


def soft(net):
    for name, child in net.named_children():
        if isinstance(child, nn.MaxPool2d):
            setattr(net, name, SumPool(child))
        else:
            soft(child)
    return net


def positive(net):
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    return net.double().eval()


def analysed(net, size):
    image = torch.empty(1, C, *size, device="meta")
    with torch.no_grad(), CircularPadding(), Dependence(image) as seen:
        output = torch.func.functionalize(net.eval())(image)
    return [np.broadcast_to(field, (2, *output.shape)) for field in seen.fields[output]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(networks, st.randoms(use_true_random=False))
def test_fields_of_random_units_equal_the_support_of_their_gradient(net, random):
    net = nn.Sequential(net)
    size = (random.randrange(20, 30), random.randrange(20, 30))
    x = torch.rand(1, C, *size, dtype=torch.double, requires_grad=True)
    try:
        fields = analysed(net, size)
    except (RuntimeError, ValueError):  # the network does not take this size: then it must fail on real images too
        with pytest.raises((RuntimeError, ValueError)):
            net.double()(x)
        return
    y = positive(soft(net))(x)
    for _ in range(5):
        unit = (0, *(random.randrange(n) for n in y.shape[1:]))
        (gradient,) = torch.autograd.grad(y[unit], x, retain_graph=True)
        mask = (gradient != 0).any(1)[0]
        got = [(int(field[(0, *unit)]), -int(field[(1, *unit)])) for field in fields]
        if mask.any():
            support = [(int(v.nonzero()[0]), int(v.nonzero()[-1])) for v in (mask.any(1), mask.any(0))]
            assert all(low <= first and last <= high for (low, high), (first, last) in zip(got, support, strict=True))
            # near the border, a branch whose rows lie in the padding has no columns either; one axis cannot know
            if all(low > 0 and high < n - 1 for (low, high), n in zip(got, size, strict=True)):
                assert got == support


KNOWN = {
    "alexnet": (lambda: models.alexnet(weights=None).features, 195, 32),
    "vgg16": (lambda: models.vgg16(weights=None).features, 212, 32),
    "resnet18": (lambda: nn.Sequential(*list(models.resnet18(weights=None).children())[:-2]), 435, 32),
    "resnet50": (lambda: nn.Sequential(*list(models.resnet50(weights=None).children())[:-2]), 427, 32),
    "mobilenet_v2": (lambda: models.mobilenet_v2(weights=None).features, 491, 32),
    "googlenet": (
        lambda: nn.Sequential(
            *list(models.googlenet(weights=None, aux_logits=False, init_weights=False).children())[:-3]
        ),
        379,
        32,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_networks_of_torchvision(name):
    make, size, stride = KNOWN[name]
    field = receptive_field(make())
    assert field.size == (size, size)
    assert field.stride == (stride, stride)


def test_alexnet_lies_where_the_gradient_says():
    net = models.alexnet(weights=None).features
    field = receptive_field(net)
    for i, part in enumerate(net):
        if isinstance(part, nn.MaxPool2d):
            net[i] = nn.AvgPool2d(part.kernel_size, part.stride)
    x = torch.rand(1, 3, 287, 287, dtype=torch.double, requires_grad=True)
    positive(net)(x)[0, :, 4, 3].sum().backward()
    mask = (x.grad != 0).any(1)[0]
    for axis, (along, unit) in enumerate(((mask.any(1), 4), (mask.any(0), 3))):
        place = along.nonzero()[:, 0]
        assert len(place) == field.size[axis]
        assert float(place[0] + place[-1]) / 2 == field.offset[axis] + unit * field.stride[axis]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=5
    )
)
def test_stacks_equal_the_recursion(layers):
    size, jump, center = 1, 1, 0.0
    for k, s, d, p in layers:
        size, center, jump = size + d * (k - 1) * jump, center + (d * (k - 1) / 2 - p) * jump, jump * s
    field = receptive_field(nn.Sequential(*[nn.Conv2d(1, 1, k, s, p, d) for k, s, d, p in layers]))
    assert field == ReceptiveField((size, size), (jump, jump), (center, center))


@pytest.mark.parametrize(
    ("function", "size", "stride", "offset"),
    [
        (lambda x: F.avg_pool2d(x, (2, 3)), (2, 3), (2, 3), (0.5, 1)),
        (lambda x: F.avg_pool2d(x, (2, 3)).transpose(2, 3), (2, 3), (2, 3), (0.5, 1)),
        (lambda x: F.interpolate(x, scale_factor=2), (1, 1), (0.5, 0.5), (-0.25, -0.25)),
        (lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), (1, 1), (0.5, 0.5), (-0.25, -0.25)),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), (4, 4), (0.5, 0.5), (-0.25, -0.25)),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (2, 2), (0.5, 0.5), (-0.25, -0.25)),
        (lambda x: x.mean(3, keepdim=True) + x, (1, math.inf), (1, 0), (0, None)),
        (lambda x: F.conv_transpose2d(x, torch.ones(3, 1, 2, 2), stride=3), (1, 1), (1 / 3, 1 / 3), (-1 / 6, -1 / 6)),
        (lambda x: F.glu(F.avg_pool2d(x.repeat(1, 2, 1, 1), 3, 1), 1), (3, 3), (1, 1), (1, 1)),
        (lambda x: F.pixel_unshuffle(x, 4), (4, 4), (4, 4), (1.5, 1.5)),
        (lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (3,)).permute(0, 3, 1, 2), (1, 1), (1, 1), (0, 0)),
        (lambda x: F.pad(x, (1, 1, 1, 1), "circular")[..., ::2, ::2], (1, 1), (2, 2), (-1, -1)),
        (lambda x: x + torch.zeros(1, 3, 1, 1), (1, 1), (1, 1), (0, 0)),
        (lambda x: F.local_response_norm(x, 3), (1, 1), (1, 1), (0, 0)),
    ],
)
def test_operations(function, size, stride, offset):
    field = receptive_field(Do(function))
    assert field.size == size
    assert field.stride == pytest.approx(stride)
    for got, expected in zip(field.offset, offset, strict=True):
        assert math.isnan(got) if expected is None else got == pytest.approx(expected)


def shifted_by_assignment(x):
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    y[:, :, 0] = x[:, :, 0]
    y[:, 0] = torch.zeros(())
    return y


def test_assignment_to_a_part():
    field = receptive_field(Do(shifted_by_assignment))
    assert field == ReceptiveField((1, 1), (1, 1), (-1, 0))


def test_fixed_positions():
    assert receptive_field(Do(lambda x: x[:, :, torch.arange(0, x.shape[2], 2)])).stride == (2, 1)


def test_index_select():
    assert receptive_field(Do(lambda x: x.index_select(3, torch.arange(1, x.shape[3], 3)))).offset == (0, 1)


def test_upsampling_with_aligned_corners_sees_two_pixels():
    assert receptive_field(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)).size == (2, 2)


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(C, C, 1)

    def forward(self, x):
        return x * self.mix(x.mean((2, 3), keepdim=True)).sigmoid()


class NonLocal(nn.Module):
    def forward(self, x):
        tokens = F.max_pool2d(x, 8).flatten(2)
        return x + (tokens.softmax(2) @ tokens.transpose(1, 2)).mean()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(C, 2, batch_first=True)

    def forward(self, x):
        return self.block(F.avg_pool2d(x, 16).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    "module",
    [
        nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(3), nn.InstanceNorm2d(C), nn.GroupNorm(2, C), SqueezeExcite(),
        NonLocal(), nn.Sequential(nn.Conv2d(C, 2, 5), nn.Flatten(), nn.Linear(2 * 24 * 24, 10)),
        models.vgg11(weights=None), nn.BatchNorm2d(C, track_running_stats=False), Do(lambda x: x.amax((2, 3))),
        Do(lambda x: F.avg_pool2d(x, x.shape[2:])), nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)),
    ],
)  # fmt: skip
def test_what_sees_the_whole_image(module):
    assert receptive_field(module).whole_image


def test_attention_sees_all_tokens():
    assert receptive_field(Tokens(), (C, 64, 64)).whole_image


def test_fixed_sizes():
    position = Do(lambda x: F.avg_pool2d(x + torch.zeros(1, 1, 32, 32, device=x.device), 5, 1, 2))
    assert receptive_field(position, (1, 3, 32, 32)).size == (5, 5)
    with pytest.raises(ValueError, match="larger than the field"):
        receptive_field(
            Do(lambda x: F.avg_pool2d(x + torch.zeros(1, 1, 32, 32, device=x.device), 25, 1, 12)), (3, 32, 32)
        )
    lenet = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.AvgPool2d(2), nn.Conv2d(16, 120, 5)
    )
    assert receptive_field(lenet, (1, 32, 32)).size == (32, 32)


def test_field_larger_than_half_of_the_largest_image_is_still_found():
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, dilation=2**i) for i in range(11)])
    assert receptive_field(net).size == (4095, 4095)


def test_a_field_that_shifts_with_the_image_size_is_whole():
    assert receptive_field(Do(lambda x: x + x.flip(2))).size[0] == math.inf


def test_module_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    receptive_field(net)
    assert [part.training for part in net.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with pytest.raises(ValueError, match="takes"):
        receptive_field(net, (4, 32, 32))
    assert net.training
    assert not net[1].training


@pytest.mark.parametrize(
    ("module", "shape", "error", "message"),
    [
        (3, None, TypeError, "expected an nn.Module, got int"),
        (Do(lambda x: (x, x)), None, TypeError, "returns one tensor, got tuple"),
        (Do(lambda x: torch.ones(1, 1, 4, 4)), None, ValueError, "depends on the image"),
        (Do(lambda x: F.unfold(x, 16, stride=16)), None, ValueError, "a map"),
        (Do(lambda x: x.renorm(2, 1, 1.0)), None, NotImplementedError, "aten.renorm"),
        (Do(lambda x: F.conv2d(x, x[:, :, :3, :3])), None, NotImplementedError, "weights"),
        (Do(lambda x: x.roll(3)), None, NotImplementedError, "roll"),
        (Do(lambda x: x[:, :, torch.tensor([[0, 1]])]), None, NotImplementedError, "indexing"),
        (Do(lambda x: x[x > 0]), None, NotImplementedError, "pixel values"),
        (Do(lambda x: x * x.sum().item()), None, NotImplementedError, "pixel values"),
        (Do(lambda x: F.avg_pool2d(x, 16).flatten(2)), None, ValueError, "a map"),
        (nn.LazyConv2d(3, 3), None, ValueError, "lazy"),
        (nn.Conv2d(3, 3, 7), (3, 5, 5), ValueError, "takes images"),
        (nn.Conv2d(3, 3, 7), (3, 5), ValueError, "input_shape"),
        (nn.Conv2d(3, 3, 7), (2, 3, 32, 32), ValueError, "input_shape"),
        (nn.Linear(10, 10), None, ValueError, "other shapes"),
    ],
)
def test_errors_say_what_to_do(module, shape, error, message):
    with pytest.raises(error, match=message):
        receptive_field(module, shape)


@pytest.mark.parametrize("shape", ["abc", 5, (3, 5.5, 5), (3, 0, 5), torch.zeros(3, 8, 8), (3, 10**9, 10**9)])
def test_input_shapes_that_are_none(shape: object) -> None:
    with pytest.raises(ValueError, match="expected input_shape .*; give such a tuple"):
        receptive_field(nn.Conv2d(3, 3, 3), shape)  # type: ignore[arg-type]


def uniform(n):
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(n)])
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1 / 9)
    return net


def test_effective_field_of_a_uniform_stack_is_a_power_of_the_kernel():
    row = np.ones(1)
    for _ in range(6):
        row = np.convolve(row, np.ones(3) / 3)
    field = effective_receptive_field(uniform(6), (1, 13, 13))
    torch.testing.assert_close(field, torch.tensor(np.outer(row, row), dtype=torch.float32))
    place = torch.arange(13.0) - 6
    assert float((field.sum(0) * place**2).sum()) == pytest.approx(2 * 6 / 3, rel=1e-4)


def test_effective_field_averages_over_images_and_restores_the_mode():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()).train()
    images = torch.randn(5, 2, 9, 9)
    field = effective_receptive_field(net, images)
    assert net.training
    assert field.shape == (9, 9)
    assert float(field.sum()) == pytest.approx(1)
    assert not images.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(field, effective_receptive_field(net, images))


@pytest.mark.parametrize(
    ("module", "images", "error", "message"),
    [
        (3, (1, 9, 9), TypeError, "nn.Module"),
        (nn.Conv2d(1, 1, 3), (9, 9), ValueError, "shape"),
        (nn.Conv2d(1, 1, 3), torch.zeros(9, 9), ValueError, "float images"),
        (nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 9, 9, dtype=torch.int64), ValueError, "float images"),
        (nn.Flatten(), (1, 9, 9), ValueError, "head"),
        (Do(lambda x: (x,)), (1, 9, 9), ValueError, "tuple"),
        (Do(lambda x: x * 0), (1, 9, 9), ValueError, "gradient of zero"),
    ],
)
def test_effective_field_errors(module, images, error, message):
    with pytest.raises(error, match=message):
        effective_receptive_field(module, images)


def test_units_that_see_nothing_are_marked():
    fields = analysed(Do(lambda x: F.pad(x, (2, 2, 2, 2))), (8, 8))
    assert (fields[0][0, 0, 0, :2] == NothingSeen).all()


class Remembering(nn.Module):
    """Keeps a running mean and counts its calls, as careless modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("mean", torch.zeros(4))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = self.conv(x)
        self.mean = 0.9 * self.mean + 0.1 * y.mean((0, 2, 3))
        return y


def test_the_module_stays_as_it_was() -> None:
    module = Remembering()
    assert receptive_field(module).size == (3, 3)
    assert module.calls == 0
    assert module.mean.device.type == "cpu"
    assert module(torch.zeros(1, 3, 5, 5)).shape == (1, 4, 5, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_dtype(dtype: torch.dtype) -> None:
    assert receptive_field(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 3)).to(dtype)).size == (7, 7)


class Windows(nn.Module):
    """A mean over windows of 8x8, which covers a small test image but not a large one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, C, H, W = x.shape
        windows = x.reshape(B, C, H // 8, 8, W // 8, 8)
        return windows.mean((3, 5), keepdim=True).expand(windows.shape).reshape(B, C, H, W)


def test_a_window_is_not_the_whole_image() -> None:
    assert receptive_field(Windows(), (1, 8, 8)).size == (8, 8)


def test_out_of_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, x: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(Windows, "forward", full)
    with pytest.raises(MemoryError):
        receptive_field(Windows(), (1, 8, 8))
