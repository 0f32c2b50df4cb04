"""State dicts from the official names to ours and back."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from parity import DATA, load_case
from piip import ClassificationConfig, LinearMergingConfig, MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationModel
from piip.zoo import official
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


def test_conversion_leaves_the_model_alone(model: ClassificationModel) -> None:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    other = {key: tensor + 1 for key, tensor in official.official_state_dict(model).items()}
    official.convert_state_dict(other, model)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def classifier(*, branches: int = 3, head: Any = None, **interaction: Any) -> ClassificationModel:
    vits = [tiny_vit(image_size=16 * number, stages=(2,)) for number in range(1, branches + 1)]
    pyramid = tiny_pyramid(*vits, **interaction)
    return ClassificationConfig(pyramid=pyramid, head=head or SeparateHeadsConfig(num_classes=3)).build()


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
    with pytest.raises(ConversionError, match="interactions both ways between neighbours"):
        official.official_state_dict(classifier(edges=edges))


def test_directions_of_a_unit_may_stand_in_either_order() -> None:
    reordered = classifier(edges=((3, 2), (2, 3), (1, 2), (2, 1)))
    assert set(official.official_state_dict(reordered)) == set(official.official_state_dict(classifier()))


def test_five_branches_are_not_official() -> None:
    with pytest.raises(ConversionError, match="this model has 5 branches"):
        official.official_state_dict(classifier(branches=5))


@pytest.mark.parametrize(
    "head",
    [
        SeparateHeadsConfig(branches=(1, 2)),
        MergedHeadConfig(merging=LinearMergingConfig(branches=(2, 3))),
        MergedHeadConfig(merging=LinearMergingConfig(branches=(3, 1, 2))),
    ],
)
def test_heads_that_the_official_code_lacks(head: Any) -> None:
    model = classifier(head=replace(head, num_classes=3))
    with pytest.raises(ConversionError, match=r"heads on all branches in their order; this model has 3 branches"):
        official.official_state_dict(model)
    with pytest.raises(ConversionError, match=r"heads on all branches"):
        official.convert_state_dict({}, model)


def test_merged_head_on_one_branch_is_not_official() -> None:
    with pytest.raises(ConversionError, match="1 branches and a MergedHeadConfig on all"):
        official.official_state_dict(classifier(branches=1, head=MergedHeadConfig(num_classes=3)))


def test_all_branches_may_be_named() -> None:
    named = classifier(head=MergedHeadConfig(num_classes=3, merging=LinearMergingConfig(branches=(1, 2, 3))))
    assert "merge_branch3.2.weight" in official.official_state_dict(named)
