"""Backbones for dense prediction: any branches, any size, and maps of the told widths and strides."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig, UniPerceiverConfig
from piip.config import ConfigError, from_dict, to_dict
from piip.pyramid import Backbone, BackboneConfig, ConvMergingConfig, InteractionConfig, LevelConfig, PyramidConfig
from piip.pyramid.backbone import simple_pyramid
from tiny_models import images, randomised, tiny_pyramid, tiny_vit

STAGES = 4
HIERARCHY = tuple(LevelConfig(stage=stage, scale=1) for stage in range(STAGES))


def vit(image_size: int = 64, **changes: Any) -> AnyBranchConfig:
    return tiny_vit(
        **{"image_size": image_size, "depth": STAGES, "stages": (1,) * STAGES, "class_token": False, **changes}
    )


def beit(image_size: int) -> AnyBranchConfig:
    return BEiTConfig(
        image_size=image_size, depth=STAGES, embed_dim=64, num_heads=2, stages=(1,) * STAGES, window_size=3
    )


def uniperceiver(image_size: int) -> AnyBranchConfig:
    windows = (None, 3) * (STAGES // 2)
    return UniPerceiverConfig(
        image_size=image_size, depth=STAGES, embed_dim=32, num_heads=2, stages=(1,) * STAGES, window_size=windows
    )


def convnext(image_size: int = 128, stages: tuple[int, ...] = (1, 2, 3, 2)) -> AnyBranchConfig:
    return ConvNeXtConfig(image_size=image_size, stages=stages, depths=(1, 1, 2, 1), widths=(32, 64, 64, 96))


def backbone(*branches: AnyBranchConfig, **changes: Any) -> BackboneConfig:
    interaction = InteractionConfig(num_heads=4, num_points=2)
    return BackboneConfig(pyramid=PyramidConfig(branches=branches, interaction=interaction), **changes)


@torch.no_grad()
@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([vit, beit, uniperceiver, convnext]), min_size=1, max_size=5),
    sizes=st.lists(st.sampled_from([64, 96, 112, 128]), min_size=5, max_size=5),
    shape=st.tuples(st.integers(128, 160), st.integers(128, 160)),
    form=st.sampled_from(["deep", "light"]),
    hierarchy=st.booleans(),
    data=st.data(),
)
def test_maps_are_as_told(
    kinds: list[Any], sizes: list[int], shape: tuple[int, int], form: Any, hierarchy: bool, data: st.DataObject
) -> None:
    branches = [kind(size) for kind, size in zip(kinds, sizes, strict=False)]
    numbers = st.lists(st.integers(1, len(branches)), min_size=1, unique=True)
    merged = data.draw(st.none() | numbers.map(tuple))
    config = backbone(*branches, merging=ConvMergingConfig(branches=merged, form=form))
    strides = config.pyramid.branches[config.pyramid.finest - 1].strides
    if hierarchy and strides[0] == 16:
        scales = (4, 2, 1, 0.5)
        config = replace(config, levels=tuple(LevelConfig(stage=s, scale=scale) for s, scale in enumerate(scales)))
    elif hierarchy:
        config = replace(config, levels=HIERARCHY)

    model = config.build().eval()
    maps = model(images(2, 3, *shape))

    assert len(maps) == len(model.channels) == len(model.strides) == 4
    for out, channels, stride, level in zip(maps, model.channels, model.strides, config.levels, strict=True):
        cell = int(stride * level.scale)
        grid = [int(side // cell * level.scale) for side in shape]
        assert out.shape == (2, channels, *grid)
        assert out.isfinite().all()
    assert from_dict(BackboneConfig, to_dict(config)) == config


@pytest.mark.slow
@torch.no_grad()
def test_compiles_to_one_graph_and_exports() -> None:
    model = randomised(backbone(vit(64), beit(96), convnext(128)).build()).eval()
    batch = images(1, 3, 140, 131)
    expected = model(batch)
    compiled = torch.compile(model, fullgraph=True, backend="eager")(batch)
    exported = torch.export.export(model, (batch,)).module()(batch)
    for own, graph, export in zip(expected, compiled, exported, strict=True):
        torch.testing.assert_close(graph, own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(export, own, atol=1e-5, rtol=1e-5)


def test_strides_and_channels_of_the_official_kinds() -> None:
    pyramid = [vit(64, embed_dim=64), vit(96, embed_dim=32)]
    assert backbone(*pyramid).strides == (4, 8, 16, 32)
    assert backbone(*pyramid).channels == (64,) * 4
    assert backbone(*pyramid, levels=simple_pyramid(2, 1, 0.5)).strides == (8, 16, 32)
    mixed = backbone(vit(64), convnext(128), merging=ConvMergingConfig(form="light"), levels=HIERARCHY)
    assert (mixed.strides, mixed.channels) == ((4, 8, 16, 32), (32,) * 4)
    single = backbone(convnext(), merging=None, levels=HIERARCHY)
    assert (single.strides, single.channels) == ((4, 8, 16, 32), (32, 64, 64, 96))


@torch.no_grad()
def test_one_branch_without_merging_gives_its_own_maps() -> None:
    model = randomised(backbone(convnext(), merging=None, levels=HIERARCHY).build()).eval()
    batch = images(1, 3, 70, 96)
    expected = model.pyramid.forward_intermediates(batch)
    for out, tokens in zip(model(batch), expected.values(), strict=True):
        assert torch.equal(out, tokens[0].map.permute(0, 3, 1, 2))


def test_every_parameter_of_a_pyramid_gets_a_gradient() -> None:
    model = randomised(backbone(vit(64), beit(80), convnext(128), levels=(LevelConfig(scale=4),)).build()).eval()
    sum(out.square().sum() for out in model(images(1, 3, 130, 140))).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_stages_after_the_last_level_are_not_run() -> None:
    model = backbone(vit(64), vit(96), levels=(LevelConfig(stage=1, scale=1),)).build().eval()
    batch = images(1, 3, 96, 96)
    before = model(batch)
    model.pyramid.branches[1].blocks[2].forward = None
    assert torch.equal(model(batch)[0], before[0])
    assert list(model.merging) == ["1"]


def test_a_stage_is_merged_once() -> None:
    levels = (LevelConfig(stage=0, scale=4), LevelConfig(stage=-1, scale=2), LevelConfig(stage=-1, scale=1))
    assert list(backbone(vit(64), vit(96), levels=levels).build().merging) == ["0", "3"]


@pytest.mark.parametrize(
    ("branches", "changes", "message"),
    [
        ((vit(), vit()), {"merging": None}, r"merging: 2 branches cannot become one map without it"),
        ((vit(),), {"levels": ()}, r"levels: a backbone needs at least one"),
        ((vit(),), {"levels": (LevelConfig(stage=4, scale=1),)}, r"levels\[0\]\.stage: 4 is none of the 4 stages"),
        ((vit(),), {"levels": simple_pyramid(1, 2)}, r"levels: go from the finest .* strides are \(16, 8\)"),
        ((vit(embed_dim=40),), {}, r"merging: the width 40 of branch 1 is no multiple of 32"),
        ((vit(embed_dim=40),), {"merging": None}, r"levels\[0\]\.scale: 4 normalises in groups of 32"),
        ((vit(patch_size=14),), {}, r"levels: strides must be whole pixels, but they would be \[3\.5, 7\.0"),
        ((vit(),), {"merging": ConvMergingConfig(branches=(2,))}, r"merging\.branches: \(2,\) does not name"),
    ],
)
def test_what_cannot_be_built(branches: tuple[AnyBranchConfig, ...], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone(*branches, **changes)


def test_other_scales_are_refused() -> None:
    with pytest.raises(ValueError, match=r"levels\.scale: expected 4, 2, 1 or 1/2, got 8"):
        LevelConfig(scale=8)
    with pytest.raises(ConfigError, match=r"merging\.form: expected one of 'deep', 'light'"):
        ConvMergingConfig(form="shallow")


def test_maps_of_an_enlarged_image() -> None:
    pyramid = PyramidConfig(
        branches=(vit(64, embed_dim=64), vit(96), vit(160)), interaction=InteractionConfig(num_heads=4), input_branch=2
    )
    model = BackboneConfig(pyramid=pyramid).build().eval()
    maps = model(images(1, 3, 96, 128))
    assert [tuple(one.shape[-2:]) for one in maps] == [(40, 52), (20, 26), (10, 13), (5, 6)]
    with pytest.raises(ValueError, match=r"levels: strides must be whole pixels, but they would be \[2\.4, 4\.8"):
        _ = model.strides


@pytest.mark.parametrize("config", [None, tiny_pyramid()])
def test_what_is_no_configuration(config: Any) -> None:
    with pytest.raises(ValueError, match="config: expected a BackboneConfig; got "):
        Backbone(config)
