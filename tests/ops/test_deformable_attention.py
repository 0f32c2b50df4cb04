"""The function `deformable_attention`: its two kernels against each other, and against what is known by hand."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_inputs import Inputs, make_inputs
from torch import Tensor

from piip.ops import deformable_attention

SIZES = st.integers(1, 6)
EXACT_SIZES = st.sampled_from([1, 2, 4])  # in which multiples of half a cell are not rounded
KERNELS = pytest.mark.parametrize("kernel", ["reference", "gather"])


@st.composite
def inputs(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> Inputs:
    on_grid = draw(st.booleans())
    sizes = EXACT_SIZES if on_grid else SIZES
    return make_inputs(
        tuple(draw(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3))),
        batch=draw(st.integers(0, 3)),
        queries=draw(st.integers(0, 7)),
        heads=draw(st.integers(1, 3)),
        points=draw(st.integers(1, 5)),
        head_dim=draw(st.sampled_from([1, 2, 6, 9])),
        spread=draw(st.sampled_from([0.6, 1.0, 50.0])),
        on_grid=on_grid,
        dtype=dtype,
        seed=draw(st.integers(0, 10**6)),
    )


def outputs_and_gradients(given: Inputs, kernel: str) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in given.tensors]
    output = deformable_attention(leaves[0], given.shapes, *leaves[1:], kernel=kernel)
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, cotangent)]


@settings(deadline=None, max_examples=120)
@given(inputs())
def test_kernels_agree(given: Inputs) -> None:
    expected = outputs_and_gradients(given, "reference")
    for ours, theirs in zip(outputs_and_gradients(given, "gather"), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(inputs(torch.float32))
def test_kernels_agree_in_float32_inside_cells(given: Inputs) -> None:
    # The gradient of a location jumps at a centre, and rounding may put a sample on its other side.
    given = given.off_grid()
    expected = outputs_and_gradients(given, "reference")
    for ours, theirs in zip(outputs_and_gradients(given, "gather"), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@KERNELS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("locations_dtype", ["half", "float32"])
def test_half_precision(kernel: str, dtype: torch.dtype, locations_dtype: str) -> None:
    exact = make_inputs(((5, 7), (3, 4)), head_dim=6, queries=11).off_grid()
    value, locations, weights = (tensor.to(dtype) for tensor in exact.tensors)
    if locations_dtype == "float32":
        locations = exact.locations.float()
    halves = Inputs(exact.shapes, value, locations, weights)
    doubles = Inputs(exact.shapes, *(tensor.double() for tensor in halves.tensors))
    results = outputs_and_gradients(halves, kernel)
    assert [result.dtype for result in results] == [dtype, dtype, locations.dtype, dtype]
    eps = torch.finfo(dtype).eps
    for ours, expected in zip(results, outputs_and_gradients(doubles, "reference"), strict=True):
        tolerance = 4 * eps * expected.abs().max().item()  # rounding the cotangent and the result, nothing between
        torch.testing.assert_close(ours.double(), expected, rtol=eps, atol=tolerance)


@KERNELS
@settings(deadline=None, max_examples=25)
@given(given=inputs())
def test_is_linear_in_value(kernel: str, given: Inputs) -> None:
    value, locations, weights = given.tensors
    other = value.flip(0) * 0.5 + 1
    together = deformable_attention(2 * value - 3 * other, given.shapes, locations, weights, kernel=kernel)
    apart = [deformable_attention(part, given.shapes, locations, weights, kernel=kernel) for part in (value, other)]
    torch.testing.assert_close(together, 2 * apart[0] - 3 * apart[1])


@KERNELS
def test_constant_map_gives_the_sum_of_the_weights(kernel: str) -> None:
    given = make_inputs(((4, 5), (6, 6)))
    value, locations, weights = given.tensors
    inside = 0.25 + 0.5 * torch.rand(locations.shape, dtype=locations.dtype)
    output = deformable_attention(torch.ones_like(value), given.shapes, inside, weights, kernel=kernel)
    expected = weights.sum((-1, -2)).repeat_interleave(value.shape[-1], dim=-1)
    torch.testing.assert_close(output, expected)


@KERNELS
def test_places_known_by_hand(kernel: str) -> None:
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).view(1, 6, 1, 1)  # rows (1, 2, 3) and (4, 5, 6)
    places = {
        (0.5, 0.25): 2.0,  # a centre
        (0.5, 0.75): 5.0,  # x comes first
        (0.5, 0.5): 3.5,  # between two centres
        (1 / 3, 0.5): 3.0,  # between four
        (0.0, 0.25): 0.5,  # on the border half the weight lies outside
        (1.0, 1.0): 1.5,  # in a corner three quarters do
        (-1 / 6, 0.25): 0.0,  # a cell away from the nearest centre
        (7.0, -1e30): 0.0,
    }
    locations = torch.tensor(list(places)).view(1, -1, 1, 1, 1, 2)
    output = deformable_attention(value, ((2, 3),), locations, torch.ones(locations.shape[:-1]), kernel=kernel)
    torch.testing.assert_close(output.flatten(), torch.tensor(list(places.values())), atol=1e-6, rtol=0)


@KERNELS
def test_chunks_do_not_show(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = make_inputs(((4, 5), (6, 3)), batch=3, queries=10)
    expected = outputs_and_gradients(given, kernel)
    monkeypatch.setattr("piip.ops.sampling._CHUNK", 50)
    for ours, theirs in zip(outputs_and_gradients(given, kernel), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@KERNELS
def test_every_tensor_is_made_on_the_device_of_the_inputs(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a device is not said, it is the default one, which need not be that of the inputs."""
    given = make_inputs(((4, 5), (1, 3)))
    leaves = [tensor.requires_grad_() for tensor in given.tensors]
    cotangent = torch.ones(2, 6, 10, dtype=torch.float64)
    for name in ("arange", "empty", "eye", "full", "linspace", "ones", "sparse_csr_tensor", "tensor", "zeros"):
        monkeypatch.setattr(torch, name, functools.partial(_on_a_named_device, getattr(torch, name)))
    output = deformable_attention(leaves[0], given.shapes, *leaves[1:], kernel=kernel)
    torch.autograd.grad(output, leaves, cotangent)


def _on_a_named_device(factory: Callable[..., Tensor], *args: Any, device: torch.device | str, **kwargs: Any) -> Tensor:
    return factory(*args, device=device, **kwargs)


def test_nan_location_gives_nan_and_no_crash() -> None:
    given = make_inputs(((4, 5),), batch=1, queries=2)
    given.locations[0, 0] = torch.nan
    output = deformable_attention(given.value, given.shapes, given.locations, given.weights, kernel="gather")
    assert output[0, 0].isnan().all()
    assert output[0, 1].isfinite().all()


@KERNELS
def test_accepts_tensors_that_are_not_contiguous(kernel: str) -> None:
    given = make_inputs(((4, 5),), batch=2, queries=3)
    expected = outputs_and_gradients(given, kernel)
    strided = Inputs(given.shapes, *(tensor.movedim(0, -1).contiguous().movedim(-1, 0) for tensor in given.tensors))
    for ours, theirs in zip(outputs_and_gradients(strided, kernel), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_auto_is_the_gather_kernel_on_cpu() -> None:
    given = make_inputs(((4, 5),))
    ours = deformable_attention(given.value, given.shapes, given.locations, given.weights)
    gathered = deformable_attention(given.value, given.shapes, given.locations, given.weights, kernel="gather")
    assert torch.equal(ours, gathered)


WRONG = {
    "value must be (batch, cells, heads, head_dim)": lambda g: (g.value[0], g.shapes, g.locations, g.weights),
    "value must be floating point": lambda g: (g.value.long(), g.shapes, g.locations, g.weights),
    "spatial_shapes must be one or more": lambda g: (g.value, (), g.locations, g.weights),
    "of at least (1, 1)": lambda g: (g.value, ((0, 4), (2, 3)), g.locations, g.weights),
    "value has 26 cells but spatial_shapes ((4, 5), (2, 2)) have 24": (
        lambda g: (g.value, ((4, 5), (2, 2)), g.locations, g.weights)
    ),
    "sampling_locations must be (batch, queries, heads, levels, points, 2)": (
        lambda g: (g.value, g.shapes, g.locations[..., 0], g.weights)
    ),
    "sampling_locations must be (2, 6, 2, 2, 3, 2)": (
        lambda g: (g.value, g.shapes, g.locations[:, :, :, :1], g.weights)
    ),
    "attention_weights must be (2, 6, 2, 2, 3)": lambda g: (g.value, g.shapes, g.locations, g.weights[..., :2]),
    "move them to one device": lambda g: (g.value, g.shapes, g.locations.to("meta"), g.weights),
    "attention_weights are torch.float32": lambda g: (g.value, g.shapes, g.locations, g.weights.float()),
    "sampling_locations are torch.float16": lambda g: (g.value, g.shapes, g.locations.half(), g.weights),
}


@pytest.mark.parametrize("message", WRONG)
def test_refuses_what_does_not_fit(message: str) -> None:
    given = make_inputs(((4, 5), (2, 3)))
    with pytest.raises(ValueError, match=re.escape(message)):
        deformable_attention(*WRONG[message](given))


def test_refuses_an_unknown_kernel() -> None:
    given = make_inputs(((4, 5),))
    with pytest.raises(ValueError, match="kernel='fastest' is unknown"):
        deformable_attention(given.value, given.shapes, given.locations, given.weights, kernel="fastest")
