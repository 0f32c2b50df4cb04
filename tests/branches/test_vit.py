"""The vision transformer as a branch."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from piip.branches import Tokens, ViT, even_stages
from piip.branches.positions import resample_grid
from tiny_models import images, randomised, tiny_vit


def run(vit: ViT, batch: Tensor) -> Tokens:
    tokens = vit.embed(batch)
    for stage in range(len(vit.config.stages)):
        tokens = vit.run_stage(stage, tokens)
    return tokens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: 0}, rf"{name}: must be at least 1, got 0") for name in ("image_size", "depth", "embed_dim")),
        *(({name: -1}, rf"{name}: must be at least 1, got -1") for name in ("num_heads", "patch_size", "in_channels")),
        ({"num_heads": 5}, r"num_heads: 5 does not divide embed_dim 32"),
        ({"mlp_ratio": 0.01}, r"mlp_ratio: 0\.01 of embed_dim 32 is less than one channel"),
        ({"mlp_ratio": -4}, r"mlp_ratio: -4"),
        ({"mlp_ratio": float("inf")}, r"mlp_ratio: inf .* not finite"),
        ({"stages": ()}, r"stages: need at least one stage"),
        ({"stages": (3, -1)}, r"stages: .* no negative number of blocks; got stages \(3, -1\)"),
        ({"unused_blocks": -1, "stages": (3,)}, r"unused_blocks -1"),
        ({"stages": (1, 2)}, r"stages: \(1, 2\) and unused_blocks 0 cover 3 blocks, but depth is 2"),
        ({"unused_blocks": 1}, r"cover 3 blocks, but depth is 2"),
        ({"drop_path": 1.0}, r"drop_path: must be in \[0, 1\), got 1\.0"),
        ({"drop_path": -0.1}, r"drop_path"),
        ({"drop_path": float("nan")}, r"drop_path"),
        ({"image_size": 15}, r"image_size: 15 pixels are less than one patch \(patch_size 16\)"),
        ({"pos_embed_size": 8}, r"pos_embed_size: 8 pixels"),
        ({"class_pos_embed": "added", "class_token": False}, r"class_pos_embed: 'added' needs a class token"),
        ({"window_size": (2,), "class_token": False}, r"window_size: 1 values for depth 2"),
        ({"window_size": 0, "class_token": False}, r"window_size: must be at least 1"),
        ({"window_size": (None, 2)}, r"window_size: a class token belongs to no window"),
        ({"norm": "batchnorm"}, r"norm: expected one of 'layernorm', 'rmsnorm', got 'batchnorm'"),
        ({"gelu": "relu"}, r"gelu: expected one of"),
        ({"window_padding": "zeros"}, r"window_padding: expected one of"),
        ({"class_pos_embed": "yes"}, r"class_pos_embed: expected one of"),
        ({"drop_path_rule": "cosine"}, r"drop_path_rule: expected one of"),
    ],
)
def test_impossible_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_vit(**changes)


def test_what_a_configuration_tells() -> None:
    config = tiny_vit(depth=5, stages=(2, 0, 2), unused_blocks=1, patch_size=8, pos_embed_size=72, class_token=False)
    assert config.channels == (32, 32, 32)
    assert config.strides == (8, 8, 8)
    assert config.pos_embed_grid == 9
    assert config.windows == (None,) * 5
    assert replace(config, window_size=3).windows == (3,) * 5
    assert isinstance(config.make_final_norm(), nn.LayerNorm)


@pytest.mark.parametrize(
    ("depth", "num_stages", "stages"),
    [(24, 12, (2,) * 12), (32, 12, (2,) * 4 + (3,) * 8), (12, 12, (1,) * 12), (5, 2, (2, 3)), (3, 1, (3,))],
)
def test_even_stages(depth: int, num_stages: int, stages: tuple[int, ...]) -> None:
    assert even_stages(depth, num_stages) == stages
    with pytest.raises(ValueError, match=f"num_stages: {depth} blocks cannot be split into {depth + 1} stages"):
        even_stages(depth, depth + 1)


@pytest.mark.parametrize(
    ("depth", "num_stages", "message"),
    [
        (12, 0, "num_stages: must be at least 1, got 0"),
        (-3, 2, "depth: must be at least 1, got -3"),
        ("12", 4, "depth: expected a whole number, got '12'"),
        (12, 4.0, r"num_stages: expected a whole number, got 4\.0"),
        (12, None, "num_stages: expected a whole number, got None"),
    ],
)
def test_numbers_of_stages_that_are_none(depth: Any, num_stages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        even_stages(depth, num_stages)


@torch.no_grad()
@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_equals_timm(layer_scale: float | None) -> None:
    theirs = timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=3,
        num_heads=4,
        num_classes=0,
        global_pool="",
        init_values=layer_scale,
    )
    ours = tiny_vit(
        patch_size=8,
        embed_dim=48,
        depth=3,
        num_heads=4,
        stages=(1, 2),
        class_pos_embed="added",
        layer_scale=layer_scale,
    ).build()
    weights = randomised(theirs).eval().state_dict()
    ours.load_state_dict({name: weight for name, weight in weights.items() if not name.startswith("norm.")})
    batch = images(2, 3, 32, 32)
    tokens = run(ours.eval(), batch)
    assert tokens.class_token is not None
    sequence = torch.cat([tokens.class_token, tokens.map.flatten(1, 2)], dim=1)
    torch.testing.assert_close(theirs.norm(sequence), theirs(batch), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_class_position() -> None:
    batch = images(1, 3, 32, 32)
    added = randomised(tiny_vit(class_pos_embed="added").build())
    unused = tiny_vit(class_pos_embed="unused").build()
    unused.load_state_dict(added.state_dict())
    assert torch.equal(added.embed(batch).map, unused.embed(batch).map)
    with_position, without = added.embed(batch).class_token, unused.embed(batch).class_token
    assert with_position is not None
    assert without is not None
    assert torch.equal(without, added.cls_token)
    assert torch.equal(with_position, added.cls_token + added.pos_embed[:, :1])
    assert tiny_vit(class_pos_embed="none").build().pos_embed.shape[1] == added.pos_embed.shape[1] - 1


@torch.no_grad()
def test_class_token_takes_part_in_attention() -> None:
    vit, batch = randomised(tiny_vit().build()).eval(), images(1, 3, 32, 32)
    before = run(vit, batch)
    vit.cls_token.add_(images(32))  # not a constant, which the norm would remove
    after = run(vit, batch)
    assert before.class_token is not None
    assert before.class_token.shape == (1, 1, 32)
    assert not torch.allclose(before.map, after.map, atol=1e-4)
    assert run(tiny_vit(class_token=False).build(), batch).class_token is None


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(48, 80), (32, 33), (16, 160), (100, 70)])
def test_positions_of_other_images(height: int, width: int) -> None:
    vit = randomised(tiny_vit(image_size=64).build())
    batch = images(1, 3, height, width)
    grid = vit.pos_embed.view(1, 4, 4, 32).permute(0, 3, 1, 2)
    size = (height // 16, width // 16)
    expected = F.interpolate(grid, size, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    assert torch.equal(vit.embed(batch).map, vit.patch_embed(batch) + expected)


def test_positions_keep_double_precision() -> None:
    grid = images(1, 3, 3, 2).double() + 1e-12
    expected = F.interpolate(grid.permute(0, 3, 1, 2), (4, 5), mode="bicubic").permute(0, 2, 3, 1)
    assert torch.equal(resample_grid(grid, 4, 5), expected)
    assert resample_grid(grid.bfloat16(), 4, 5).dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize(("patch_size", "grid"), [(4, (12, 9)), (7, (6, 5)), (14, (3, 2)), (32, (1, 1))])
def test_patch_sizes(patch_size: int, grid: tuple[int, int]) -> None:
    vit = tiny_vit(patch_size=patch_size).build()
    assert run(vit, images(2, 3, 48, 37)).map.shape == (2, *grid, 32)


def test_pixels_beyond_the_last_patch_are_left_out() -> None:
    vit, batch = tiny_vit().build().eval(), images(1, 3, 40, 47)
    assert torch.equal(run(vit, batch).map, run(vit, batch[:, :, :32, :32]).map)


@pytest.mark.parametrize("shape", [(1, 3, 15, 64), (1, 3, 64, 15)])
def test_images_smaller_than_a_patch(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"images: a branch with patch_size 16 would see \({shape[2]}, {shape[3]}\)"):
        tiny_vit().build().embed(images(*shape))


@torch.no_grad()
def test_stages_are_the_blocks_in_their_order() -> None:
    vit = randomised(tiny_vit(depth=4, stages=(0, 2, 0, 1), unused_blocks=1, class_token=False).build()).eval()
    tokens = vit.embed(images(1, 3, 32, 32))
    assert torch.equal(vit.run_stage(0, tokens).map, tokens.map)
    second = vit.run_stage(1, tokens)
    assert torch.equal(second.map, vit.blocks[1](vit.blocks[0](tokens.map)))
    assert torch.equal(vit.run_stage(2, second).map, second.map)
    assert torch.equal(vit.run_stage(3, second).map, vit.blocks[2](second.map))


def test_unused_blocks_get_no_gradient() -> None:
    vit = tiny_vit(unused_blocks=1, depth=3).build()
    run(vit, images(1, 3, 32, 32)).map.sum().backward()
    without = {name for name, parameter in vit.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in vit.named_parameters() if name.startswith("blocks.2.")}


@pytest.mark.parametrize(
    ("rule", "rates"),
    [("constant", [0.3, 0.3, 0.3, 0.3]), ("linear", [0.0, 0.1, 0.2, 0.3])],
)
def test_drop_path(rule: str, rates: list[float]) -> None:
    vit = tiny_vit(depth=4, stages=(4,), drop_path=0.3, drop_path_rule=rule).build()
    paths = [block.drop_path for block in vit.blocks]
    assert [path.drop_prob if isinstance(path, DropPath) else 0.0 for path in paths] == pytest.approx(rates)
    batch = images(4, 3, 32, 32)
    vit.train()
    assert not torch.equal(run(vit, batch).map, run(vit, batch).map)
    vit.eval()
    assert torch.equal(run(vit, batch).map, run(vit, batch).map)


def test_linear_drop_path_of_one_block_is_none() -> None:
    vit = tiny_vit(depth=1, stages=(1,), drop_path=0.3, drop_path_rule="linear").build()
    assert isinstance(vit.blocks[0].drop_path, nn.Identity)


def test_activation_checkpointing_changes_no_gradient() -> None:
    stored = randomised(tiny_vit(drop_path=0.4, layer_scale=1.0).build()).train()
    recomputed = replace(stored.config, activation_checkpointing=True).build().train()
    recomputed.load_state_dict(stored.state_dict())
    calls: list[nn.Module] = []
    for block in recomputed.blocks:
        block.register_forward_pre_hook(lambda module, _: calls.append(module))

    for vit in (stored, recomputed):
        torch.manual_seed(0)  # the same paths are dropped
        run(vit, images(4, 3, 32, 48)).map.square().sum().backward()
    assert len(calls) == 2 * len(recomputed.blocks)
    expected = dict(stored.named_parameters())
    for name, parameter in recomputed.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad)

    calls.clear()
    run(recomputed.eval(), images(1, 3, 32, 32))
    assert len(calls) == len(recomputed.blocks)


@pytest.mark.parametrize(
    "changes", [{}, {"class_token": False, "window_size": 2}, {"norm": "rmsnorm", "qk_norm": True}]
)
def test_bfloat16(changes: dict[str, Any]) -> None:
    vit, batch = randomised(tiny_vit(**changes).build()), images(2, 3, 48, 48)
    expected = run(vit, batch).map
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = run(vit, batch).map
    mixed.square().sum().backward()
    assert all(parameter.grad is not None for parameter in vit.blocks.parameters())
    assert (mixed - expected).abs().max() < 0.05 * expected.abs().max()
    half = run(copy.deepcopy(vit).bfloat16(), batch.bfloat16()).map
    assert half.dtype == torch.bfloat16
    assert (half - expected).abs().max() < 0.05 * expected.abs().max()
