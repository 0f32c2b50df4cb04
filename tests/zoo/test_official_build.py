"""Official constructor dicts as our configurations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from piip.config import ConfigError
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.zoo import official
from tiny_models import images, randomised


def deit(**changes: Any) -> dict[str, Any]:
    """The arguments of a small official DeiT branch, all that the official configurations give."""
    return {
        "img_size": 32,
        "patch_size": 16,
        "pretrain_img_size": 224,
        "pretrain_patch_size": 16,
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "mlp_ratio": 4,
        "init_scale": 1.0,
        "qkv_bias": True,
        "drop_rate": 0.0,
        "drop_path_rate": 0.1,
        "interaction_indexes": [[0, 0], [1, 1]],
        "use_cls_token": True,
        "use_flash_attn": False,
        "with_cp": False,
        "pretrained": None,
        "num_classes": 5,
    } | changes


def augreg(**changes: Any) -> dict[str, Any]:
    arguments = deit(model_type="augreg", **changes)
    del arguments["init_scale"], arguments["drop_rate"]
    return arguments


def augreg_alone(**changes: Any) -> dict[str, Any]:
    return without(augreg(**changes), "model_type")


def two_branches(**changes: Any) -> dict[str, Any]:
    return {
        "type": "PIIPTwoBranch",
        "n_points": 4,
        "deform_num_heads": 4,
        "cffn_ratio": 0.25,
        "deform_ratio": 0.5,
        "with_cffn": True,
        "interact_attn_type": "deform",
        "interaction_drop_path_rate": 0.4,
        "separate_head": True,
        "num_classes": 5,
        "branch1": deit(embed_dim=64),
        "branch2": deit(img_size=48),
    } | changes


def without(arguments: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key != name}


def test_what_a_pyramid_becomes() -> None:
    config = official.model_config(two_branches())
    first, second = config.pyramid.branches
    assert (first.image_size, first.embed_dim, first.stages, first.layer_scale) == (32, 64, (1, 1), 1.0)
    assert (second.image_size, second.embed_dim, second.drop_path) == (48, 32, 0.1)
    interaction = config.pyramid.interaction
    assert (interaction.num_heads, interaction.num_points, interaction.value_ratio) == (4, 4, 0.5)
    assert (interaction.ffn_ratio, interaction.drop_path, interaction.attention) == (0.25, 0.4, "deformable")
    assert config.head == SeparateHeadsConfig(num_classes=5, reads="first_patch")
    assert config.preprocess.input_size == 48


def test_separate_heads_take_the_branches_number_of_classes() -> None:
    assert official.model_config(two_branches(num_classes=1000)).head.num_classes == 5


def test_merged_head_takes_the_pyramids_number_of_classes() -> None:
    head = official.model_config(two_branches(separate_head=False, num_classes=9)).head
    assert head == MergedHeadConfig(num_classes=9)
    no_head = official.model_config(two_branches(separate_head=False, use_cls_head=False)).head
    assert no_head == MergedHeadConfig(num_classes=0)


def test_single_models_classify_by_the_class_token() -> None:
    config = official.model_config({"type": "vit_models", **deit()})
    assert config.head == SeparateHeadsConfig(num_classes=5, reads="class_token")
    assert config.pyramid.branches[0].class_pos_embed == "none"
    assert (
        official.model_config({"type": "InternViT6B", **augreg_alone()}).pyramid.branches[0].class_pos_embed == "added"
    )


@torch.no_grad()
@pytest.mark.parametrize("official_class", ["vit_models", "InternViT6B"])
def test_a_single_model_without_norm_and_head_gives_its_features(official_class: str) -> None:
    arguments = deit(use_final_norm_and_head=False) if official_class == "vit_models" else augreg_alone()
    model = official.build_model({"type": official_class, **arguments, "use_final_norm_and_head": False}).eval()
    batch = images(2, 3, 32, 32)
    assert torch.equal(model(batch)["features"], model.pyramid(batch)[0].map)
    names = official.official_state_dict(model)
    assert not any(name.startswith(("norm", "head")) for name in names)
    model.load_state_dict(official.convert_state_dict(names, model), strict=True)


@pytest.mark.parametrize("path", [None, "weights/piip.pth"])
def test_weights_to_start_from_are_left_to_others(path: str | None) -> None:
    assert official.model_config(two_branches(pretrained=path)) == official.model_config(two_branches())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (two_branches(n_pionts=4), r"PIIPTwoBranch: not known: n_pionts; did you mean 'n_points'"),
        (two_branches(one=1, two=2), r"PIIPTwoBranch: not known: one, two"),
        (two_branches(branch3=deit()), r"PIIPTwoBranch: not known: branch3"),
        (two_branches(branch2=deit(windw_size=7)), r"branch2: not known: windw_size; did you mean 'window_size'"),
        (without(two_branches(), "branch2"), r"PIIPTwoBranch\.branch2: is missing"),
        (without(two_branches(), "n_points"), r"PIIPTwoBranch\.n_points: is missing; the official"),
        (two_branches(branch1=without(deit(), "depth")), r"PIIPTwoBranch\.branch1\.depth: is missing"),
        (
            two_branches(branch1=without(deit(embed_dmi=32), "embed_dim")),
            r"branch1\.embed_dim: is missing \(is 'embed_dmi' meant to be it\?\)",
        ),
        (two_branches(n_points="4"), r"PIIPTwoBranch\.n_points: expected int, got '4'"),
        (two_branches(n_points=True), r"n_points: expected int, got True"),
        (two_branches(with_cffn=1), r"with_cffn: expected bool, got 1"),
        (two_branches(deform_ratio="half"), r"deform_ratio: expected float, got 'half'"),
        (two_branches(branch1=[1]), r"branch1: expected Mapping, got \[1\]"),
        (two_branches(branch1=deit(depth=2.0)), r"branch1\.depth: expected int, got 2\.0"),
        (two_branches(branch1=deit(drop_rate=0.1)), r"branch1\.drop_rate: no official model uses dropout"),
        (two_branches(branch1=deit(model_type="beit")), r"model_type: expected one of 'deit', 'augreg', got 'beit'"),
        (two_branches(branch1=deit(num_heads=5)), r"PIIPTwoBranch\.branch1: num_heads: 5 does not divide embed_dim 32"),
        (two_branches(branch1=deit(num_classes=7)), r"num_classes: .*'PIIPTwoBranch\.branch1': 7"),
        (two_branches(interact_attn_type="flash"), r"interact_attn_type: expected one of 'deform', 'normal'"),
        (two_branches(n_points=0), r"PIIPTwoBranch: interaction\.num_points: must be at least 1, got 0"),
        (two_branches(deform_num_heads=7), r"PIIPTwoBranch: interaction\.num_heads: 7 does not divide"),
        (two_branches(num_classes=0, separate_head=False), r"PIIPTwoBranch\.num_classes: must be at least 1, got 0"),
        (two_branches(branch1=deit(num_classes=0)), r"PIIPTwoBranch\.branch1\.num_classes: must be at least 1, got 0"),
        ({"type": "vit_models", **deit(num_classes=0)}, r"vit_models\.num_classes: must be at least 1, got 0"),
        ({"type": "vit_models", **deit(n_points=4)}, r"vit_models: not known: n_points"),
        ({"type": "PIIPThreeBranches"}, r"'PIIPThreeBranches' is not an official.*did you mean 'PIIPThreeBranch'"),
        ({"type": "ResNet"}, r"config\.type: 'ResNet' is not an official model; there are InternViT6B, PIIPFour"),
        ({"branch1": {}}, r"config\.type: is missing"),
        ("PIIPTwoBranch", r"config: expected a dict of constructor arguments, got 'PIIPTwoBranch'"),
    ],
)
def test_refused_by_name(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        official.build_model(config)


def test_unknown_task() -> None:
    with pytest.raises(ConfigError, match=r"task: 'tracking'"):
        official.build_model(two_branches(), task="tracking")


@pytest.mark.parametrize(
    ("indexes", "stages", "unused"),
    [
        ([[0, 0], [1, 3]], (1, 3), 0),
        (((0, 1), (2, 3)), (2, 2), 0),
        ([[0, -1], [0, 3]], (0, 4), 0),  # an empty first range
        ([[0, 1], [2, 1], [2, 3]], (2, 0, 2), 0),  # an empty one between
        ([[0, 1], [2, 3], [4, 3]], (2, 2, 0), 0),
        ([[0, 0], [1, 1]], (1, 1), 2),  # the last two blocks are never run
        (None, (4,), 0),
        # Slices of the blocks, as Python cuts them.
        ([[0, 1], [2, 9]], (2, 2), 0),
        ([[0, 3], [4, 7]], (4, 0), 0),
        ([[0, 1], [7, 9]], (2, 0), 2),
        ([[0, -2]], (3,), 1),
        ([[0, 1], [-2, -1], [-2, 3]], (2, 0, 2), 0),
    ],
)
def test_interaction_indexes(indexes: Any, stages: tuple[int, ...], unused: int) -> None:
    branch = official.model_config(
        {"type": "vit_models", **deit(depth=4, interaction_indexes=indexes)}
    ).pyramid.branches[0]
    assert (branch.stages, branch.unused_blocks) == (stages, unused)


@pytest.mark.parametrize(
    ("indexes", "message"),
    [
        ([[0, 2], [2, 3]], r"interaction_indexes: \[2, 3\] begins with block 2, but the next one is 3"),
        ([[0, 0], [2, 3]], r"\[2, 3\] begins with block 2, but the next one is 1"),
        ([[1, 3]], r"\[1, 3\] begins with block 1, but the next one is 0"),
        ([[0, 1, 2]], r"expected pairs \(first, last\), got \[0, 1, 2\]"),
        ([0, 1], r"expected pairs \(first, last\), got 0"),
        ([["0", "1"]], r"expected pairs \(first, last\), got \['0', '1'\]"),
        ([[0.0, 1.0]], r"expected pairs \(first, last\)"),
        ([], r"stages: need at least one stage"),
        (3, r"interaction_indexes: expected list or tuple or NoneType, got 3"),
    ],
)
def test_impossible_interaction_indexes(indexes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        official.build_model({"type": "vit_models", **deit(depth=4, interaction_indexes=indexes)})


def test_branches_of_different_numbers_of_interactions() -> None:
    with pytest.raises(ConfigError, match=r"PIIPTwoBranch: stages: .*differ: \[1, 2\]"):
        official.build_model(two_branches(branch1=deit(interaction_indexes=[[0, 1]])))


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"window_attn": False, "window_size": 14}, (None, None)),
        ({"window_attn": True, "window_size": 7}, (7, 7)),
        ({"window_attn": True}, (14, 14)),
        ({"window_attn": [True, False], "window_size": [3, 14]}, (3, None)),
    ],
)
def test_windows(changes: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    for flash, padding in ((True, "tokens"), (False, "qkv")):
        arguments = deit(use_cls_token=False, use_flash_attn=flash, **changes)
        branch = official.model_config({"type": "vit_models", **arguments}).pyramid.branches[0]
        assert branch.windows == windows
        assert branch.window_padding == padding or windows == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_attn": [True]}, r"branch1\.window_attn: 1 values, but depth is 2"),
        ({"window_attn": [1, 0]}, r"branch1\.window_attn: expected bool for each block, got \[1, 0\]"),
        ({"window_attn": True, "window_size": ["7", "7"]}, r"window_size: expected int for each block"),
        ({"window_attn": True, "window_size": 0}, r"branch1: window_size: must be at least 1"),
        ({"window_attn": True, "use_cls_token": True}, r"branch1: window_size: a class token belongs to no window"),
    ],
)
def test_impossible_windows(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        official.build_model(two_branches(branch1=deit(**{"use_cls_token": False} | changes)))


@pytest.mark.parametrize("attention", ["deform", "normal"])
def test_without_convolutional_feed_forward(attention: str) -> None:
    """The official constructor fails here; it means the interactions without that part."""
    arguments = without(two_branches(with_cffn=False, interact_attn_type=attention), "cffn_ratio")
    model = randomised(official.build_model(arguments)).eval()
    names = official.official_state_dict(model)
    assert any("ca_gamma" in name for name in names)
    assert not any("ffn" in name for name in names)
    official.convert_state_dict(names, model)
    assert model(images(2, 3, 48, 48))["logits"].isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("branch", [deit, augreg])
@pytest.mark.parametrize(
    ("first", "last", "height", "width", "grids"),
    [
        (240, 352, 352, 352, [(15, 15), (22, 22)]),  # a pixel is lost to rounding officially: 239
        (208, 368, 368, 368, [(13, 13), (23, 23)]),
        (32, 48, 48, 80, [(2, 3), (3, 5)]),  # 53 pixels for the first branch: not a multiple of a patch
        (32, 48, 96, 48, [(4, 2), (6, 3)]),
        (32, 48, 100, 70, [(4, 2), (6, 4)]),
        (48, 32, 48, 48, [(3, 3), (2, 2)]),  # the first branch's image is the larger one
    ],
)
def test_sizes_that_the_official_code_cannot_run(
    branch: Any, first: int, last: int, height: int, width: int, grids: list[tuple[int, int]]
) -> None:
    branches = {
        "branch1": branch(img_size=first, depth=1, interaction_indexes=[[0, 0]]),
        "branch2": branch(img_size=last, depth=1, interaction_indexes=[[0, 0]]),
    }
    model = randomised(official.build_model(two_branches(**branches))).eval()
    batch = images(1, 3, height, width)
    assert [tuple(tokens.map.shape[1:3]) for tokens in model.pyramid(batch)] == grids
    assert model(batch)["logits"].isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("first", [48, 80])
def test_an_image_that_the_official_code_does_not_enlarge(first: int) -> None:
    """A branch that should see more than the last one sees the same image, with its own positions on that grid."""
    config = official.model_config(
        two_branches(
            interact_attn_type="normal", branch1=augreg(img_size=first, embed_dim=64), branch2=augreg(img_size=48)
        )
    )
    assert config.preprocess.input_size == config.pyramid.image_size == 48
    model = randomised(config.build()).eval()
    large = model.pyramid.branches[0]
    assert large.pos_embed.shape[1] == 1 + (first // 16) ** 2
    batch = images(1, 3, 48, 80)
    tokens = large.embed(batch)
    positions = large.pos_embed[:, 1:].unflatten(1, (first // 16, -1)).permute(0, 3, 1, 2)
    if first // 16 != 3:
        positions = F.interpolate(positions, (3, 5), mode="bicubic", align_corners=False)
        torch.testing.assert_close(tokens.map, large.patch_embed(batch) + positions.permute(0, 2, 3, 1))
    seen: list[torch.Size] = []
    for branch in model.pyramid.branches:
        branch.patch_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    model(batch)
    assert seen == [batch.shape, batch.shape]


@pytest.mark.parametrize(
    ("attention", "first", "last"),
    [("deform", augreg, augreg), ("normal", deit, augreg), ("normal", deit, deit), ("deform", deit, deit)],
)
def test_images_are_enlarged_where_the_official_code_fails(attention: str, first: Any, last: Any) -> None:
    config = official.model_config(
        two_branches(interact_attn_type=attention, branch1=first(img_size=80), branch2=last(img_size=48))
    )
    assert [branch.image_size for branch in config.pyramid.branches] == [80, 48]
    assert [branch.pos_embed_size for branch in config.pyramid.branches] == [None, None]


def test_only_what_should_be_larger_than_the_last_image_is_not_resized() -> None:
    arguments = two_branches(interact_attn_type="normal", branch3=augreg(img_size=48, embed_dim=32))
    arguments |= {"type": "PIIPThreeBranch", "branch1": deit(embed_dim=64), "branch2": augreg(img_size=80)}
    branches = official.model_config(arguments).pyramid.branches
    assert [(branch.image_size, branch.pos_embed_size) for branch in branches] == [(32, None), (48, 80), (48, None)]
