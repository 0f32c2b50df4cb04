"""State dicts from the official names to ours and back."""

import gzip
import json
from typing import Any

import pytest
import torch

from parity import DATA, load_case
from piip import (
    ClassificationConfig,
    LinearMergingConfig,
    MergedHeadConfig,
    SeparateHeadsConfig,
    ViTConfig,
    list_models,
)
from piip.tasks.classification.model import ClassificationModel
from piip.zoo import official
from piip.zoo.cards import find_card
from piip.zoo.official import ConversionError
from tiny_models import tiny_pyramid, tiny_vit

RELEASED = ("tsb_368-192-128", "sbl_320-160-96", "sbl_384-192-128")
# One for each kind of name: both ViT classes, alone and in pyramids, both heads and attentions, two to four branches.
SMALL = (
    "cls_small_single_deit",
    "cls_small_single_augreg",
    "cls_small_2b_normal_noproj",
    "cls_small_3b_deit_clshead",
    "cls_small_3b_augreg_rms_qknorm",
    "cls_small_3b_noproj_nonorm",
    "cls_small_4b_augreg_normal",
)


def arguments(case_name: str) -> dict[str, Any]:
    case, _ = load_case(case_name)
    return {"type": case["class"], **case["kwargs"]}


@pytest.mark.parametrize("name", RELEASED)
def test_released_manifest(name: str) -> None:
    manifest = json.loads(gzip.decompress((DATA / f"manifest_{name}.json.gz").read_bytes()))
    shapes = {key: tuple(shape) for key, shape in manifest["state_dict"].items()}
    with torch.device("meta"):
        model = official.build_model(arguments(f"cls_{name}"))
        checkpoint = {key: torch.empty(shape) for key, shape in shapes.items()}

    converted = official.convert_state_dict(checkpoint, model)

    model.load_state_dict(converted, strict=True, assign=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == manifest["num_params"]
    assert {key: tuple(tensor.shape) for key, tensor in official.official_state_dict(model).items()} == shapes


@pytest.mark.parametrize("name", RELEASED)
def test_every_manifest_has_a_card(name: str) -> None:
    (card_name,) = list_models(f"piip_3branch_{name}_*")
    manifest = json.loads(gzip.decompress((DATA / f"manifest_{name}.json.gz").read_bytes()))
    with torch.device("meta"):
        model = find_card(card_name).config().build()
        checkpoint = {key: torch.empty(shape) for key, shape in manifest["state_dict"].items()}
    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)
    assert official.official_state_dict(model).keys() == checkpoint.keys()


@pytest.mark.parametrize("name", SMALL)
def test_there_and_back_is_the_identity(name: str) -> None:
    model = official.build_model(arguments(name))
    there = official.official_state_dict(model)
    back = official.convert_state_dict(there, model)

    own = model.state_dict()
    assert list(back) == list(own)
    assert all(back[key].data_ptr() == own[key].data_ptr() for key in own)
    assert {key: list(tensor.shape) for key, tensor in there.items()} == load_case(name)[0]["state_dict"]


@pytest.fixture
def model() -> ClassificationModel:
    return official.build_model(arguments("cls_small_2b_deit_sephead"))


def test_every_misfit_is_listed(model: ClassificationModel) -> None:
    checkpoint = official.official_state_dict(model)
    del checkpoint["branch1.cls_token"]
    del checkpoint["branch2.head.bias"]
    checkpoint["branch3.cls_token"] = torch.zeros(1)
    checkpoint["branch1.norm.weight"] = torch.zeros(7)
    with pytest.raises(ConversionError) as caught:
        official.convert_state_dict(checkpoint, model)
    message = str(caught.value)
    assert "missing (2): branch2.head.bias, branch1.cls_token" in message
    assert "unexpected (1): branch3.cls_token" in message
    assert "of another shape (1): branch1.norm.weight (7,), expected" in message


def test_wrapped_checkpoint_is_refused_with_advice(model: ClassificationModel) -> None:
    with pytest.raises(ConversionError, match=r"'model', 'epoch' are not tensors; .* checkpoint\['model'\]"):
        official.convert_state_dict({"model": official.official_state_dict(model), "epoch": 3}, model)


def test_what_is_no_state_dict_or_no_model(model: ClassificationModel) -> None:
    for state_dict in (None, "official.pth", model):
        with pytest.raises(ValueError, match=r"state_dict: expected tensors by their names, as torch\.load"):
            official.convert_state_dict(state_dict, model)
    for other in (None, model.config, model.state_dict(), model.pyramid):
        for convert in (lambda own: official.convert_state_dict({}, own), official.official_state_dict):
            with pytest.raises(ValueError, match="model: expected a task model of piip, or a Backbone; got"):
                convert(other)


def test_conversion_leaves_the_model_alone(model: ClassificationModel) -> None:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    other = {key: tensor + 1 for key, tensor in official.official_state_dict(model).items()}
    official.convert_state_dict(other, model)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def vit(**changes: Any) -> ViTConfig:
    """A branch as the official `vit_models` has it."""
    return tiny_vit(**{"layer_scale": 1.0, "stages": (2,)} | changes)


def internvit(**changes: Any) -> ViTConfig:
    return tiny_vit(**{"class_pos_embed": "unused", "stages": (2,)} | changes)


def classifier(*branches: ViTConfig, head: Any = None, **interaction: Any) -> ClassificationModel:
    """A model that the official code has, but for what the arguments change."""
    branches = branches or tuple(vit(image_size=16 * number) for number in (1, 2, 3))
    head = head or SeparateHeadsConfig(num_classes=3, reads="first_patch")
    return ClassificationConfig(pyramid=tiny_pyramid(*branches, **interaction), head=head).build()


def assert_exported(model: ClassificationModel) -> None:
    back = official.convert_state_dict(official.official_state_dict(model), model)
    assert set(back) == set(model.state_dict())


def assert_refused(model: ClassificationModel, *messages: str) -> None:
    with pytest.raises(ConversionError, match="the official code has no such model") as caught:
        official.official_state_dict(model)
    assert len(str(caught.value).splitlines()) == 1 + len(messages)
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize("name", ["cls_tsb_368-192-128", *SMALL])
def test_what_the_official_constructors_build_can_be_exported(name: str) -> None:
    with torch.device("meta"):
        assert_exported(official.build_model(arguments(name)))


@pytest.mark.parametrize("name", [name for name in list_models() if find_card(name).released])
def test_released_models_can_be_exported(name: str) -> None:
    with torch.device("meta"):
        assert_exported(find_card(name).config().build())


@pytest.mark.parametrize(
    "edges",
    [
        (),
        ((1, 2), (2, 1)),
        ((1, 2), (2, 1), (2, 3), (3, 2)),  # from the first branch to the last
        ((2, 3), (1, 2), (3, 2), (2, 1)),  # the directions of a unit apart: the later one reads what the earlier wrote
        ((1, 3), (3, 1), (1, 2), (2, 1)),
    ],
)
def test_interactions_that_the_official_code_lacks(edges: tuple[tuple[int, int], ...]) -> None:
    assert_refused(classifier(edges=edges), f"interaction.edges: {edges}; officially both ways between neighbours")


def test_edges_that_take_turns_are_not_official() -> None:
    branches = (vit(image_size=16 * number, stages=(1, 1)) for number in (1, 2, 3))
    assert_refused(classifier(*branches, turns=2), "interaction.turns: 2; officially all edges run after every stage")


def test_directions_of_a_unit_may_stand_in_either_order() -> None:
    reordered = classifier(edges=((3, 2), (2, 3), (1, 2), (2, 1)))
    assert set(official.official_state_dict(reordered)) == set(official.official_state_dict(classifier()))


def test_five_branches_are_not_official() -> None:
    assert_refused(classifier(*[vit()] * 5), "branches: 5; officially there are one to four")


@pytest.mark.parametrize(
    ("head", "field"),
    [
        (SeparateHeadsConfig(branches=(1, 2), reads="first_patch"), "head.branches: (1, 2)"),
        (SeparateHeadsConfig(branches=(2,), num_classes=0), "head.branches: (2,)"),
        (MergedHeadConfig(merging=LinearMergingConfig(branches=(2, 3))), "head.merging.branches: (2, 3)"),
        (MergedHeadConfig(merging=LinearMergingConfig(branches=(3, 1, 2))), "head.merging.branches: (3, 1, 2)"),
    ],
)
def test_heads_without_official_names(head: Any, field: str) -> None:
    message = f"{field}; officially all 3 branches have a part in the head, in their order"
    assert_refused(classifier(head=head), message)
    with pytest.raises(ConversionError, match="the official code has no such model") as caught:
        official.convert_state_dict({}, classifier(head=head))
    assert message in str(caught.value)


def test_merged_head_on_one_branch_is_not_official() -> None:
    assert_refused(classifier(vit(), head=MergedHeadConfig(num_classes=3)), "head: a MergedHeadConfig on 1 branch")


def test_all_branches_may_be_named() -> None:
    named = classifier(head=MergedHeadConfig(num_classes=3, merging=LinearMergingConfig(branches=(1, 2, 3))))
    assert "merge_branch3.2.weight" in official.official_state_dict(named)


@pytest.mark.parametrize("reads", ["mean", "class_token"])
def test_separate_heads_read_the_first_patch_officially(reads: str) -> None:
    head = SeparateHeadsConfig(num_classes=3, reads=reads)
    assert_refused(classifier(head=head), f"head.reads: '{reads}'; officially 'first_patch' in this place")


def test_what_the_head_of_a_single_model_reads_officially() -> None:
    def single(reads: str, **changes: Any) -> ClassificationModel:
        return classifier(vit(**changes), head=SeparateHeadsConfig(num_classes=3, reads=reads))

    assert_exported(single("class_token"))
    assert_exported(single("first_patch", class_token=False))
    assert_refused(single("first_patch"), "head.reads: 'first_patch'; officially 'class_token' in this place")
    assert_refused(single("mean", class_token=False), "head.reads: 'mean'; officially 'first_patch' in this place")


WINDOWS: dict[str, Any] = {"window_size": 1, "class_token": False}
MERGED_HEAD = MergedHeadConfig(num_classes=3)


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        (vit(patch_size=8), "patch_size: 8; officially 16 in a pyramid"),
        (vit(norm="rmsnorm"), "norm: 'rmsnorm'; officially 'layernorm' in vit_models"),
        (vit(qk_norm=True), "qk_norm: True; officially False in vit_models"),
        (vit(layer_scale=None), "layer_scale: None; officially vit_models always has it"),
        (vit(image_size=32, pos_embed_size=64), "image_size, pos_embed_size: 32, 64; officially 64, None"),
        (internvit(class_pos_embed="added"), "class_pos_embed: 'added'; officially 'unused' in this place"),
        (internvit(layer_scale=0.0), "layer_scale: 0.0; officially InternViT6B starts it from another number"),
        (internvit(window_padding="qkv", **WINDOWS), "window_padding: 'qkv'; officially 'tokens' in InternViT6B"),
    ],
)
def test_branches_that_the_official_code_lacks(branch: ViTConfig, message: str) -> None:
    model = classifier(branch, vit(image_size=64), head=MERGED_HEAD)
    assert_refused(model, f"branch 1, {message}")


def test_single_models_that_the_official_code_lacks() -> None:
    head = SeparateHeadsConfig(num_classes=3, reads="class_token")
    assert_refused(classifier(vit(in_channels=1), head=head), "branch 1, in_channels: 1; officially 3")
    assert_refused(classifier(internvit(), head=head), "class_pos_embed: 'unused'; officially 'added'")
    assert_exported(classifier(internvit(class_pos_embed="added"), head=head))
    assert_exported(classifier(vit(patch_size=8), head=head))


@pytest.mark.parametrize(
    "branch",
    [
        vit(window_padding="qkv"),  # without windows
        vit(window_padding="qkv", **WINDOWS),
        vit(drop_path=0.1, drop_path_rule="linear", activation_checkpointing=True),
        vit(stages=(1,), unused_blocks=1, mlp_ratio=2.0, gelu="tanh", qkv_bias=False),
        internvit(norm="rmsnorm", qk_norm=True, layer_scale=0.1, gelu="tanh"),
        internvit(layer_scale=None, **WINDOWS),
    ],
)
def test_branches_that_the_official_code_has(branch: ViTConfig) -> None:
    assert_exported(classifier(branch, vit(image_size=64), head=MERGED_HEAD))


def test_images_that_the_official_code_enlarges_or_not() -> None:
    small = internvit(image_size=32)
    enlarged, same = internvit(image_size=64), internvit(image_size=32, pos_embed_size=64)
    assert_exported(classifier(same, small, attention="regular", head=MERGED_HEAD))
    assert_refused(
        classifier(enlarged, small, attention="regular", head=MERGED_HEAD),
        "branch 1, image_size, pos_embed_size: 64, None; officially 32, 64",
    )
    assert_refused(
        classifier(same, small, head=MERGED_HEAD),
        "branch 1, image_size, pos_embed_size: 32, 64; officially 64, None",
    )
    assert_exported(classifier(enlarged, small, head=MERGED_HEAD))  # the official code fails to run it


def test_branches_that_do_not_fit_together_officially() -> None:
    assert_refused(
        classifier(vit(), vit(embed_dim=64), head=MERGED_HEAD),
        "embed_dim: [32, 64]; officially no branch is wider than the one before it",
    )
    assert_refused(
        classifier(vit(), vit(class_token=False)),
        "class_token: [True, False]; officially every branch of a pyramid with separate heads has one",
    )
    assert_exported(classifier(vit(), vit(class_token=False), head=MERGED_HEAD))


def test_every_reason_is_listed() -> None:
    head = SeparateHeadsConfig(num_classes=3, reads="mean")
    assert_refused(classifier(vit(), vit(norm="rmsnorm"), head=head, edges=()), "edges", "branch 2, norm", "head.reads")
