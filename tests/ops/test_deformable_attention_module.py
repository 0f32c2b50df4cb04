"""The layer `DeformableAttention`: against the official one, and on its own."""

import math

import pytest
import torch
from torch import Tensor

from parity import assert_matches, load_case, reference_operand, reference_tensor
from piip.ops import DeformableAttention, deformable_attention
from piip.ops.functional import Kernel


def centres(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack((x, y), dim=-1).view(1, height * width, 1, 2)


@pytest.mark.parametrize("kernel", ["reference", "gather"])
@pytest.mark.parametrize("name", ["op_msda", "op_msda_far_outside", "op_msda_heads8_points2_ratio1"])
def test_matches_the_official_layer(name: str, kernel: Kernel) -> None:
    case, arrays = load_case(name)
    kwargs = case["kwargs"]
    layer = DeformableAttention(
        kwargs["d_model"],
        kwargs["n_heads"],
        kwargs["n_points"],
        source_dim=kwargs.get("d_feat"),
        num_levels=kwargs["n_levels"],
        value_ratio=kwargs["ratio"],
        kernel=kernel,
    )
    weights = {
        key: reference_tensor(key, tuple(t.shape), case["weights_seed"]) for key, t in layer.state_dict().items()
    }
    layer.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
    query = reference_operand(case["inputs"]["query"]).requires_grad_()
    source = reference_operand(case["inputs"]["input_flatten"]).requires_grad_()
    reference = centres(*case["query_grid_hw"])
    if name == "op_msda_far_outside":
        reference = reference + torch.tensor([0.6, -0.55])

    output = layer(query, reference, source, case["value_grids_hw"])
    loss = (output * reference_operand(case["cotangents"]["out"])).sum()
    loss.backward()

    assert loss.item() == pytest.approx(case["loss"], abs=2e-5 * case["outputs"]["out"]["absmax"] * 10)
    results = {"out": output, "grad.query": query.grad, "grad.input_flatten": source.grad}
    results |= {f"grad.param.{key}": parameter.grad for key, parameter in layer.named_parameters()}
    assert results.keys() == case["outputs"].keys()
    for key, result in results.items():
        assert_matches(result, case, arrays, key, atol=1e-5 * max(1.0, case["outputs"][key]["absmax"]))


def test_initialisation_is_a_star() -> None:
    layer = DeformableAttention(16, 8, 3, num_levels=2, value_ratio=0.5)
    star = layer.sampling_offsets.bias.view(8, 2, 3, 2)
    torch.testing.assert_close(star[0, 0], torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    torch.testing.assert_close(star[1, 1], torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    torch.testing.assert_close(star[6, 0, 0], torch.tensor([0.0, -1.0]))
    for parameter in (layer.sampling_offsets.weight, *layer.attention_weights.parameters(), layer.output_proj.bias):
        assert not parameter.any()
    bound = math.sqrt(6 / (16 + 8))
    assert 0.8 * bound < layer.value_proj.weight.abs().max() <= bound
    assert {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()} == {
        "sampling_offsets.weight": (96, 16),
        "sampling_offsets.bias": (96,),
        "attention_weights.weight": (48, 16),
        "attention_weights.bias": (48,),
        "value_proj.weight": (8, 16),
        "value_proj.bias": (8,),
        "output_proj.weight": (16, 8),
        "output_proj.bias": (16,),
    }


def test_boxes_scale_the_offsets() -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, 2, 4, num_levels=2)
    query, source = torch.randn(2, 3, 8), torch.randn(2, 24, 8)
    boxes = torch.rand(2, 3, 2, 4)
    offsets = layer.sampling_offsets(query).view(2, 3, 2, 2, 4, 2)
    locations = boxes[:, :, None, :, None, :2] + offsets / 4 * boxes[:, :, None, :, None, 2:] * 0.5
    weights = torch.full((2, 3, 2, 2, 4), 1 / 8)
    value = layer.value_proj(source).view(2, 24, 2, 4)
    expected = layer.output_proj(deformable_attention(value, ((4, 5), (2, 2)), locations, weights))
    torch.testing.assert_close(layer(query, boxes, source, ((4, 5), (2, 2))), expected)


def test_padding_counts_as_zero() -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, 2, 4)
    torch.nn.init.ones_(layer.value_proj.bias)
    query, source = torch.randn(2, 3, 8), torch.randn(2, 20, 8)
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    mask[1, :, 3:] = True
    other = source.masked_fill(mask.view(2, 20, 1), 1e4)
    outputs = [
        layer(
            query,
            torch.rand(1, 3, 1, 2, generator=torch.Generator().manual_seed(0)),
            tokens,
            ((4, 5),),
            padding_mask=mask.view(2, 20),
        )
        for tokens in (source, other)
    ]
    assert torch.equal(*outputs)
    everything = torch.ones(2, 20, dtype=torch.bool)
    nothing = layer(query, torch.rand(1, 3, 1, 2), source, ((4, 5),), padding_mask=everything)
    torch.testing.assert_close(nothing, layer.output_proj.bias.expand_as(nothing))


def test_autocast_keeps_locations_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, 2, 4)
    query, source, reference = torch.randn(2, 3, 8), torch.randn(2, 20, 8), torch.rand(1, 3, 1, 2)
    seen = []

    def spy(*args: Tensor, **kwargs: str) -> Tensor:
        seen.extend((args[0].dtype, args[2].dtype, args[3].dtype))
        return deformable_attention(*args, **kwargs)

    monkeypatch.setattr("piip.ops.module.deformable_attention", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(query, reference, source, ((4, 5),))
    half.sum().backward()
    assert seen == [torch.bfloat16, torch.float32, torch.bfloat16]
    torch.testing.assert_close(half.float(), layer(query, reference, source, ((4, 5),)), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_runs_in_other_precisions(dtype: torch.dtype) -> None:
    layer = DeformableAttention(8, 2, 4).to(dtype)
    output = layer(
        torch.randn(2, 3, 8, dtype=dtype), torch.rand(2, 3, 1, 2), torch.randn(2, 20, 8, dtype=dtype), ((4, 5),)
    )
    assert output.dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, r"num_heads=3 must divide .* int\(16 \* 1.0\) = 16"),
        ({"num_heads": 8, "value_ratio": 0.25}, r"num_heads=8 must divide .* int\(16 \* 0.25\) = 4"),
        *(({"value_ratio": ratio}, "value_ratio must be a positive number") for ratio in (0.0, -1, math.inf, math.nan)),
        ({"embed_dim": 0}, "embed_dim must be positive"),
        ({"num_heads": 0}, "num_heads must be positive"),
        ({"num_points": 0}, "num_points must be positive"),
        ({"num_levels": 0}, "num_levels must be positive"),
    ],
)
def test_refuses_impossible_settings(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeformableAttention(**{"embed_dim": 16, "num_heads": 4, "num_points": 2} | arguments)


def test_an_empty_batch_and_no_query() -> None:
    layer = DeformableAttention(8, 2, 4)
    for batch, queries in ((0, 3), (2, 0), (0, 0)):
        query = torch.randn(batch, queries, 8, requires_grad=True)
        output = layer(query, torch.rand(1, queries, 1, 2), torch.randn(batch, 20, 8), ((4, 5),))
        assert output.shape == (batch, queries, 8)
        output.sum().backward()
        assert query.grad is not None


def test_refuses_arguments_that_do_not_fit() -> None:
    layer = DeformableAttention(8, 2, 4)
    query, reference, source, shapes = torch.randn(2, 3, 8), torch.rand(1, 3, 1, 2), torch.randn(2, 20, 8), ((4, 5),)
    with pytest.raises(ValueError, match="num_levels=1"):
        layer(query, reference, source, ((4, 4), (2, 2)))
    for wrong in (reference[..., :1], reference[0], reference.expand(3, -1, -1, -1), reference[:, :2]):
        with pytest.raises(ValueError, match="reference_points must be"):
            layer(query, wrong, source, shapes)
    with pytest.raises(ValueError, match="source must be"):
        layer(query, reference, source[:1], shapes)
    with pytest.raises(ValueError, match="padding_mask must be"):
        layer(query, reference, source, shapes, padding_mask=torch.zeros(2, 19, dtype=torch.bool))
    with pytest.raises(ValueError, match="value has 20 cells"):
        layer(query, reference, source, ((4, 4),))
