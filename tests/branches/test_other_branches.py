"""BEiT, Uni-Perceiver and ConvNeXt as branches; that they compute what the official ones do is tested in tests/zoo."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.branches import AnyBranchConfig, BEiTConfig, Branch, ConvNeXtConfig, UniPerceiverConfig
from piip.branches.beit import relative_bias
from piip.branches.presets import convnext
from piip.config import from_dict, to_dict
from piip.zoo.names import branch_tensor
from piip.zoo.official.unused import relative_position_index
from piip.zoo.pretrained.families import from_timm
from tiny_models import images, randomised

TRANSFORMER: dict[str, Any] = {"image_size": 48, "depth": 3, "embed_dim": 32, "num_heads": 2, "stages": (1, 2)}


def beit(**changes: Any) -> BEiTConfig:
    return BEiTConfig(**TRANSFORMER | {"window_size": (2, 3, 2)} | changes)


def uniperceiver(**changes: Any) -> UniPerceiverConfig:
    return UniPerceiverConfig(**TRANSFORMER | {"window_size": (2, None, 2), "layer_scale": 1.0} | changes)


def small_convnext(**changes: Any) -> ConvNeXtConfig:
    settings = {"image_size": 64, "depths": (1, 2, 1), "widths": (8, 16, 24), "stages": (1, 1, 2, 2)}
    return ConvNeXtConfig(**settings | changes)


CONFIGS = [beit(), uniperceiver(), small_convnext()]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)


def run(branch: Branch, batch: Tensor) -> list[Tensor]:
    """The maps after each stage."""
    tokens, maps = branch.embed(batch), []
    for stage in range(len(branch.config.stages)):
        tokens = branch.run_stage(stage, tokens)
        assert tokens.class_token is None
        maps.append(tokens.map)
    return maps


@torch.no_grad()
@each_config
@pytest.mark.parametrize("side", [(48, 64), (47, 71)])
def test_maps_have_the_told_channels_and_strides(config: AnyBranchConfig, side: tuple[int, int]) -> None:
    branch = config.build().eval()
    for out, channels, stride in zip(run(branch, images(2, 3, *side)), config.channels, config.strides, strict=True):
        assert out.shape == (2, side[0] // stride, side[1] // stride, channels)
    assert not config.class_token
    assert config.make_final_norm().weight.shape == (config.channels[-1],)
    assert from_dict(type(config), to_dict(config)) == config


@each_config
def test_recomputed_gradients_are_the_same(config: AnyBranchConfig) -> None:
    plain = randomised(config.build()).train()
    recomputed = replace(config, activation_checkpointing=True).build().train()
    recomputed.load_state_dict(plain.state_dict())
    for branch in (plain, recomputed):
        run(branch, images(1, 3, 48, 48))[-1].square().sum().backward()
    for (name, parameter), other in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)


@each_config
def test_layers_of_parameters(config: AnyBranchConfig) -> None:
    branch = config.build()
    layers = {branch.layer_of(name) for name, _ in branch.named_parameters()}
    assert layers == set(range(branch.depth + 1))


@each_config
def test_too_small_images(config: AnyBranchConfig) -> None:
    with pytest.raises(ValueError, match=r"images: a .*branch with .* would see \(\d+, 64\) pixels; give the pyramid"):
        config.build().embed(images(1, 3, config.strides[-1] - 1, 64))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_relative_bias_is_what_the_official_index_picks(size: int) -> None:
    table = images((2 * size - 1) ** 2, 3)
    expected = table[relative_position_index(size)].permute(2, 0, 1)
    assert torch.equal(relative_bias(table), expected)


@torch.no_grad()
def test_tokens_of_a_window_do_not_see_the_others() -> None:
    branch = randomised(beit(window_size=2, stages=(3,)).build()).eval()
    batch = images(1, 3, 64, 64)
    (before,) = run(branch, batch)
    batch[..., :32, :32] += 1
    changed = (run(branch, batch)[0] != before).any(-1)[0]
    assert changed[:2, :2].all()
    assert changed.sum() == 4


@torch.no_grad()
def test_positions_of_a_uniperceiver_stand_before_its_norm() -> None:
    branch = randomised(uniperceiver(pos_embed_size=32).build()).eval()
    batch = images(1, 3, 48, 64)
    grid = branch.spatial_pos_embed.view(1, 2, 2, -1).permute(0, 3, 1, 2)
    resampled = F.interpolate(grid, (3, 4), mode="bicubic").permute(0, 2, 3, 1)
    embedded = branch.patch_embed(batch) + resampled + branch.temporal_pos_embed[0]
    torch.testing.assert_close(branch.embed(batch).map, branch.embed_norm(embedded))
    assert branch.embed_norm.eps == 1e-5


@torch.no_grad()
def test_convnext_equals_timm() -> None:
    theirs: Any = timm.models.ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=0)
    config = small_convnext(depths=(1, 1, 2, 1), widths=(8, 16, 24, 32), stages=(1, 2, 3, 2), layer_scale=1e-6)
    ours = config.build().eval()
    randomised(theirs).eval()
    weights = {from_timm(name, "convnext"): tensor for name, tensor in theirs.state_dict().items()}
    ours.load_state_dict({name: weights[branch_tensor(name.split("."), config)] for name in ours.state_dict()})
    pixels = images(2, 3, 64, 96)
    for own, other in zip(run(ours, pixels), theirs.forward_intermediates(pixels)[1], strict=True):
        torch.testing.assert_close(own, other.permute(0, 2, 3, 1), atol=1e-5, rtol=0)


def test_stages_of_a_convnext_need_not_end_where_a_width_does() -> None:
    config = small_convnext(stages=(0, 2, 1, 2), unused_blocks=1)
    assert config.depth == 6
    assert config.channels == (8, 16, 16, 24)
    assert config.strides == (4, 8, 8, 16)


@torch.no_grad()
def test_blocks_beyond_the_last_stage_are_not_run() -> None:
    branch = small_convnext(stages=(1, 1), unused_blocks=4).build().eval()
    branch.blocks[2].forward = None
    assert run(branch, images(1, 3, 8, 8))[-1].shape == (1, 1, 1, 16)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_usual_convnexts(size: Any) -> None:
    twelve = convnext(size, image_size=224)
    first, second, _, last = twelve.widths
    assert [twelve.channels[stage] for stage in (0, 1, 11)] == [first, second, last]
    assert set(twelve.channels[2:11]) == {twelve.widths[2]}
    four = convnext(size, image_size=224, num_stages=4)
    assert (four.channels, four.strides) == (four.widths, (4, 8, 16, 32))
    with torch.device("meta"):
        branch = four.build()
        theirs = timm.create_model(f"convnext_{size}", num_classes=0)
    norm = sum(parameter.numel() for parameter in theirs.head.norm.parameters())
    assert count(branch) == count(theirs) - norm


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("size", "num_stages", "message"),
    [
        ("huge", 12, "size: 'huge' is none of tiny, small, base, large"),
        ("tiny", 3, "num_stages: must be at least 4, got 3"),
        ("tiny", "12", "num_stages: expected a whole number, got '12'"),
        ("tiny", 13, r"num_stages: a ConvNeXt of \(3, 3, 9, 3\) blocks has at most 12 stages, got 13"),
    ],
)
def test_what_there_is_no_convnext_of(size: Any, num_stages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convnext(size, image_size=224, num_stages=num_stages)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (beit, {"window_size": None}, r"window_size: a BEiT knows positions only within windows.* got None"),
        (beit, {"window_size": (2, None, 2)}, r"window_size: a BEiT .* got \(2, None, 2\)"),
        (beit, {"window_size": (2, 2)}, r"window_size: 2 values for depth 3"),
        (beit, {"stages": (1, 1)}, r"stages: \(1, 1\) and unused_blocks 0 cover 2 blocks, but depth is 3"),
        (uniperceiver, {"num_frames": 0}, r"num_frames: must be at least 1, got 0"),
        (uniperceiver, {"pos_embed_size": 8}, r"pos_embed_size: 8 pixels are less than one patch"),
        (small_convnext, {"widths": (8, 16)}, r"depths: .* got depths \(1, 2, 1\), widths \(8, 16\)"),
        (small_convnext, {"depths": (0, 3, 1)}, r"depths: .*at least 1"),
        (small_convnext, {"stages": (1, 1)}, r"stages: \(1, 1\) and unused_blocks 0 cover 2 blocks, but depth is 6"),
        (small_convnext, {"image_size": 12}, r"image_size: 12 pixels are less than one cell of 16"),
    ],
)
def test_impossible_configurations(make: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
