"""Official detection dicts as our configurations, and the way back with what only the official code has."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from released_detectors import beit, deit, internvit, pyramid, uniperceiver

from piip import ClassificationConfig, PyramidConfig
from piip.branches import AnyBranchConfig, BEiTConfig, UniPerceiverConfig, ViTConfig
from piip.config import ConfigError
from piip.pyramid import Backbone, BackboneConfig, ConvMergingConfig, LevelConfig, simple_pyramid
from piip.zoo import official
from piip.zoo.official import ConversionError
from piip.zoo.official.unused import relative_position_index

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 32, "num_heads": 2, "window_attn": [False] * 2, "window_size": [7, 7]}
CONVNEXTS = {"convnext-mini": {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 32, 64, 64]}}
CONVNEXT: dict[str, Any] = {"pretrained": "convnext-mini", "drop_path_rate": 0.1}
HIERARCHY: dict[str, Any] = {"with_simple_fpn": False, "out_interaction_indexes": [0, 1, 2]}


def small(branch: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return (branch or deit("tiny")) | SMALL | changes


def staged(branch: dict[str, Any]) -> dict[str, Any]:
    """A branch of four stages."""
    if "convnext" in branch["pretrained"]:
        return {**branch, "real_size": 64, "interaction_indexes": [[0, 0], [1, 2], [3, 4], [5, 6]]}
    return {**branch, "real_size": 64, "interaction_indexes": [[0, 0], [1, 0], [1, 0], [1, 1]]}


def arguments(*branches: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A pyramid, by default of two branches."""
    branches = branches or (small(embed_dim=64), small())
    sizes = [64, 96, 128, 160][: len(branches)]
    return pyramid(list(branches), sizes, stages=2, deform_num_heads=4, **changes)


def mixed(*branches: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A pyramid of three branches of four stages."""
    numbered = {f"branch{number}": staged(branch) for number, branch in enumerate(branches, 1)}
    return arguments(small(), small(), small()) | numbered | HIERARCHY | changes


def config_of(config: dict[str, Any], state_dict: Any = None) -> BackboneConfig:
    return official.model_config(config, "detection", state_dict, convnexts=CONVNEXTS)


def build(config: dict[str, Any]) -> Backbone:
    return official.build_model(config, "detection", convnexts=CONVNEXTS)


@pytest.mark.parametrize(
    ("branch", "kind"),
    [
        (small(pretrained="beit/deit_3_base.pth"), ViTConfig),
        (small(beit("base")), BEiTConfig),
        (small(beit("base"), pretrained="beit_with_perceiver.pth"), BEiTConfig),
        (small(uniperceiver("base"), pretrained="perceiver_convnext.pth"), UniPerceiverConfig),
        (small(internvit("base"), pretrained="anything.pth"), ViTConfig),
    ],
)
def test_what_pretrained_names_tells_the_class(branch: dict[str, Any], kind: type) -> None:
    first = config_of(arguments(branch | {"embed_dim": 64}, small())).pyramid.branches[0]
    assert type(first) is kind


def test_what_a_detection_branch_is() -> None:
    config = config_of(arguments(small(internvit("base", 224), embed_dim=64), small(deit("tiny", 384))))
    internvit_branch, deit_branch = config.pyramid.branches
    assert (deit_branch.image_size, deit_branch.pos_embed_size) == (96, 384)
    assert not deit_branch.class_token
    assert not internvit_branch.class_token
    assert (internvit_branch.class_pos_embed, deit_branch.class_pos_embed) == ("unused", "none")
    assert (internvit_branch.drop_path_rule, deit_branch.drop_path_rule) == ("linear", "constant")


def test_levels() -> None:
    assert config_of(arguments()).levels == simple_pyramid(4, 2, 1, 0.5)
    assert config_of(arguments(is_dino=True)).levels == simple_pyramid(2, 1, 0.5)
    last_is_vit = config_of(mixed(small(), CONVNEXT, small()))
    assert last_is_vit.levels == tuple(
        LevelConfig(stage=stage, scale=scale) for stage, scale in ((0, 4), (1, 2), (2, 1), (-1, 0.5))
    )
    last_is_convnext = config_of(mixed(small(), small(), CONVNEXT))
    assert {level.scale for level in last_is_convnext.levels} == {1}
    assert last_is_convnext.merging == ConvMergingConfig(form="light")


def test_only_the_last_of_the_out_indices_counts() -> None:
    single = {"type": "vit_models", **small(depth=4, window_attn=False), "with_fpn": True, "out_indices": [0, 2]}
    (branch,) = config_of(single).pyramid.branches
    assert (branch.stages, branch.unused_blocks) == ((3,), 1)


def four(third: int, fourth: int) -> dict[str, Any]:
    widths = (64, 64, third, fourth)
    config = arguments(*(small(embed_dim=width) for width in widths))
    config["branch4"] |= {
        "depth": 1,
        "window_attn": [True],
        "window_size": [7],
        "interaction_indexes": [[0, 0], [1, 1]],
    }
    return config


def checkpoint(width: int, prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}branch4.pos_embed": torch.empty(1, 196, width)}


def test_branch_4_is_a_copy_of_branch_3_unless_the_checkpoint_says_otherwise() -> None:
    copied = config_of(four(64, 32)).pyramid.branches
    assert copied[3] == replace(copied[2], image_size=160)
    assert config_of(four(64, 32), checkpoint(64)).pyramid.branches == copied
    for prefix in ("", "backbone."):
        own = config_of(four(64, 32), checkpoint(32, prefix)).pyramid.branches[3]
        assert (own.embed_dim, own.depth, own.windows, own.image_size) == (32, 1, (7,), 160)
    with pytest.raises(ConfigError, match="branch4: is 48 wide in the state dict, but 32 by its own arguments, and 64"):
        config_of(four(64, 32), checkpoint(48))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (arguments(small(), small(pretrained=None)), r"branch2\.pretrained: expected str, got None"),
        (arguments(with_ffn=True), r"PIIPTwoBranch: not known: with_ffn"),
        (arguments(small(), small(num_classes=3)), r"branch2: not known: num_classes"),
        (arguments(small(), small(num_heads=5)), r"PIIPTwoBranch\.branch2: num_heads: 5 does not divide"),
        (arguments(small(beit("base"), use_abs_pos_emb=True), small()), r"branch1\.use_abs_pos_emb: expected one of"),
        (arguments(small(embed_dim=48), small()), r"PIIPTwoBranch: merging: the width 48 of branch 1 is no multiple"),
        (arguments(**HIERARCHY, is_dino=True), r"is_dino: no official model has it with with_simple_fpn=False"),
        (arguments(with_simple_fpn=False), r"out_interaction_indexes: expected the numbers of 3 inter.*got None"),
        (arguments(**HIERARCHY), r"PIIPTwoBranch: levels\[2\]\.stage: 2 is none of the 2 stages"),
        (mixed(small(), small(), {**CONVNEXT, "pretrained": "convnext-nano"}), r"'convnext-nano' names no ConvNeXt"),
        (mixed(small(), small(), {**CONVNEXT, "downsample_ratios": [4] * 7}), r"expected \[4, 8, 8, 16, 16, 32, 32\]"),
        (
            arguments() | {"branch1": arguments()["branch2"]} | {"branch2": arguments()["branch1"]},
            r"sizes are \[96, 64",
        ),
        ({"type": "vit_models", **small(), "with_fpn": False}, r"vit_models\.with_fpn: expected one of True"),
        ({"type": "vit_models", **small(with_fpn=True), "out_indices": [2]}, r"out_indices: .* got \[2\]"),
        ({"type": "vit_models", **small(with_fpn=True), "out_indices": []}, r"out_indices: .* got \[\]"),
        ({"type": "UnifiedBertEncoder"}, r"config\.type: 'UnifiedBertEncoder' is not an official model"),
    ],
)
def test_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(config)


KINDS = {
    "deit": arguments(),
    "dino": arguments(small(embed_dim=64), small(), small(), is_dino=True),
    "beit": arguments(small(beit("base"), window_size=[3, 2]), small()),
    "uniperceiver": arguments(small(uniperceiver("base")), small()),
    "convnext last": mixed(small(), small(), CONVNEXT),
    "vit last": mixed(CONVNEXT, CONVNEXT, small()),
    "four": arguments(*[small()] * 4),
    "single vit": {"type": "vit_models", **small(with_fpn=True)},
    "single internvit": {"type": "InternViT6B", **small(internvit("base"), with_fpn=True)},
    "single convnext": {"type": "ConvNextHFWrapper", **CONVNEXT},
}
UNUSED = {
    "dino": {f"fpn1.{module}.{kind}" for module in (0, 1, 3) for kind in ("weight", "bias")},
    "beit": {f"branch1.blocks.{block}.attn.relative_position_index" for block in (0, 1)},
    "convnext last": {f"branch3.convnext_model.layernorm.{kind}" for kind in ("weight", "bias")},
    "vit last": {f"branch{b}.convnext_model.layernorm.{kind}" for b in (1, 2) for kind in ("weight", "bias")},
    "single convnext": {f"convnext_model.layernorm.{kind}" for kind in ("weight", "bias")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_identity(kind: str) -> None:
    model = build(KINDS[kind])
    there = official.official_state_dict(model)
    own = model.state_dict()
    back = official.convert_state_dict(there, model)
    assert list(back) == list(own)
    assert all(back[key].data_ptr() == own[key].data_ptr() for key in own)
    ours = {tensor.data_ptr() for tensor in own.values()}
    unused = {name for name, tensor in there.items() if tensor.data_ptr() not in ours}
    assert unused == UNUSED.get(kind, set())
    without = {name: tensor for name, tensor in there.items() if name not in unused}
    assert list(official.convert_state_dict(without, model)) == list(own)


def test_what_the_official_code_never_uses() -> None:
    there = official.official_state_dict(build(KINDS["beit"]).to(torch.bfloat16))
    index = there["branch1.blocks.0.attn.relative_position_index"]
    assert index.dtype == torch.int64
    assert torch.equal(index, relative_position_index(3))
    assert index[0].tolist() == [12, 11, 10, 7, 6, 5, 2, 1, 0]
    norm = official.official_state_dict(build(KINDS["single convnext"]).to(torch.bfloat16))
    assert norm["convnext_model.layernorm.weight"].dtype == torch.bfloat16
    assert norm["convnext_model.layernorm.weight"].eq(1).all()
    first, again = (official.official_state_dict(build(KINDS["dino"]))["fpn1.0.weight"] for _ in range(2))
    assert torch.equal(first, again)
    model = build(KINDS["dino"])
    state = torch.get_rng_state()
    official.official_state_dict(model)
    assert torch.equal(state, torch.get_rng_state())


def test_unused_tensors_of_another_shape_are_refused() -> None:
    model = build(KINDS["beit"])
    there = official.official_state_dict(model)
    there["branch1.blocks.1.attn.relative_position_index"] = torch.zeros(3, 3)
    with pytest.raises(
        ConversionError, match=r"of another shape \(1\): branch1\.blocks\.1\.attn\.rel.* expected \(4, 4"
    ):
        official.convert_state_dict(there, model)


def changed(branch: int, **changes: Any) -> Any:
    def change(config: BackboneConfig) -> BackboneConfig:
        branches: list[AnyBranchConfig] = list(config.pyramid.branches)
        branches[branch - 1] = replace(branches[branch - 1], **changes)
        return replace(config, pyramid=replace(config.pyramid, branches=tuple(branches)))

    return change


def outer(**changes: Any) -> Any:
    return lambda config: replace(config, **changes)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("deit", changed(1, class_token=True), "branch 1, class_token: True; officially False in detection"),
        ("deit", changed(2, patch_size=8), "branch 2, patch_size: 8; officially 16 in a pyramid"),
        ("deit", changed(1, image_size=256), "image_size: [256, 96]; officially no branch sees a larger image"),
        ("deit", outer(merging=ConvMergingConfig(branches=(2,))), "merging.branches: (2,); officially all 2"),
        ("deit", outer(levels=simple_pyramid(4, 1)), "levels: [(1, 4.0), (1, 1.0)]; officially the last stage"),
        ("deit", outer(upsampling_norm="layernorm"), "upsampling_norm: 'layernorm'; officially 'groupnorm'"),
        ("beit", changed(1, in_channels=3, patch_size=8), "branch 1, patch_size: 8; officially 16"),
        ("uniperceiver", changed(1, layer_scale=None), "layer_scale: None; officially a Uni-Perceiver always has it"),
        ("uniperceiver", changed(1, num_frames=4), "num_frames: 4; officially 8"),
        ("convnext last", changed(3, layer_scale=None), "branch 3, layer_scale: None; officially a ConvNeXt"),
        ("convnext last", outer(levels=simple_pyramid(1)), "levels: [(3, 1.0)]; officially with light merging"),
        ("single vit", outer(merging=ConvMergingConfig()), "merging: on 1 branch"),
        ("single vit", outer(levels=simple_pyramid(1)), "levels: [(0, 1.0)]; officially the last stage"),
        ("single vit", outer(upsampling_norm="groupnorm"), "upsampling_norm: 'groupnorm'; officially 'layernorm'"),
        ("single convnext", outer(levels=simple_pyramid(1)), "levels: [(3, 1.0)]; officially the map after each stage"),
    ],
)
def test_backbones_that_the_official_code_lacks(kind: str, change: Any, message: str) -> None:
    with torch.device("meta"):
        model = change(config_of(KINDS[kind])).build()
    with pytest.raises(ConversionError, match="the official code has no such model") as caught:
        official.official_state_dict(model)
    assert message in str(caught.value)


def test_classifiers_of_other_branches_are_not_official() -> None:
    branch = config_of({"type": "ConvNextHFWrapper", **CONVNEXT}).pyramid.branches[0]
    model = ClassificationConfig(pyramid=PyramidConfig(branches=(branch,))).build()
    with pytest.raises(ConversionError, match="branch 1, a ConvNeXtConfig; officially classifiers have ViTs alone"):
        official.official_state_dict(model)
