import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from piip.branches.vit import ViT
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.training.optimizer import OptimizerConfig, parameter_groups
from tiny_models import tiny_pyramid, tiny_vit


@pytest.fixture(scope="module")
def model():
    shallow = tiny_vit(image_size=48, class_token=True)
    deep = tiny_vit(depth=4, stages=(2, 2), embed_dim=64, layer_scale=0.1)
    return ClassificationConfig(pyramid=tiny_pyramid(deep, shallow), head=SeparateHeadsConfig(num_classes=3)).build()


def settings_by_name(model, **config):
    groups = parameter_groups(model, OptimizerConfig(lr=1.0, **config))
    assert all(len(group["names"]) == len(group["params"]) for group in groups)
    assert all(group["lr"] == group["initial_lr"] for group in groups)
    return {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}


def test_every_parameter_is_in_one_group(model):
    groups = parameter_groups(model, OptimizerConfig(lr=1.0, layer_decay=0.7))
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len({id(parameter) for parameter in grouped}) == len(list(model.parameters()))


def test_biases_norms_scales_and_embeddings_do_not_decay(model):
    decays = {name for name, (_, decay) in settings_by_name(model, weight_decay=0.1).items() if decay}
    expected = {
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and not name.endswith(("pos_embed", "cls_token"))
    }
    assert decays == expected
    assert "pyramid.branches.0.blocks.0.mlp.fc1.weight" in decays


@pytest.mark.parametrize(
    ("exempt", "decaying"),
    [
        ((), ("pos_embed", "norm1.weight", "ls1.gamma", "weight", "fc1.weight")),
        (("vectors",), ("pos_embed", "weight", "fc1.weight")),
        (("vectors", "scalars"), ("pos_embed", "fc1.weight")),
        (("embeddings", "scalars"), ("norm1.weight", "ls1.gamma", "fc1.weight")),
    ],
)
def test_what_decays_is_a_choice(exempt, decaying):
    deep = tiny_vit(depth=2, stages=(1, 1), embed_dim=64, layer_scale=0.1)
    pyramid = tiny_pyramid(deep, tiny_vit(image_size=48))
    merged = ClassificationConfig(pyramid=pyramid, head=MergedHeadConfig(num_classes=3)).build()
    settings = settings_by_name(merged, weight_decay=0.1, exempt=exempt)
    examples = {
        "pos_embed": "pyramid.branches.0.pos_embed",
        "norm1.weight": "pyramid.branches.0.blocks.0.norm1.weight",
        "ls1.gamma": "pyramid.branches.0.blocks.0.ls1.gamma",
        "weight": "head.merging.projections.1.weight",  # a scalar
        "fc1.weight": "pyramid.branches.0.blocks.0.mlp.fc1.weight",
    }
    assert {short for short, name in examples.items() if settings[name][1]} == set(decaying)


def test_layers_far_from_the_head_learn_slower_and_shallow_branches_in_proportion(model):
    rate = {name: lr for name, (lr, _) in settings_by_name(model, layer_decay=0.5).items()}
    for number, depth in ((0, 4), (1, 2)):
        prefix = f"pyramid.branches.{number}"
        assert rate[f"{prefix}.patch_embed.proj.weight"] == rate[f"{prefix}.pos_embed"] == pytest.approx(0.5**5)
        for block in range(depth):
            layer = (block + 1) * 4 // depth
            assert rate[f"{prefix}.blocks.{block}.mlp.fc1.weight"] == pytest.approx(0.5 ** (5 - layer))
    others = {lr for name, lr in rate.items() if not name.startswith("pyramid.branches")}
    assert others == {1.0}


def test_layers_are_counted_in_whole_ones_of_the_deepest_branch():
    """Officially too, where 32 blocks go beside 48."""
    deep, shallow = tiny_vit(depth=3, stages=(2, 1), embed_dim=64), tiny_vit(image_size=48, depth=2, stages=(1, 1))
    model = tiny_pyramid(deep, shallow).build()
    rate = {name: lr for name, (lr, _) in settings_by_name(model, layer_decay=0.5).items()}
    assert [rate[f"branches.1.blocks.{block}.mlp.fc1.weight"] for block in (0, 1)] == [0.5**3, 0.5]


def test_the_longest_fitting_multiplier_counts(model):
    multipliers = {"pyramid": 2.0, "pyramid.interactions": 10.0, "head": 3.0}
    rate = {name: lr for name, (lr, _) in settings_by_name(model, lr_multipliers=multipliers).items()}
    expected = {"pyramid.branches": 2.0, "pyramid.interactions": 10.0, "head": 3.0}
    for prefix, lr in expected.items():
        assert {rate[name] for name in rate if name.startswith(prefix)} == {lr}


def test_multipliers_and_layer_decay_multiply(model):
    rate = settings_by_name(model, layer_decay=0.5, lr_multipliers={"pyramid.branches.1": 4.0})
    assert rate["pyramid.branches.1.pos_embed"][0] == pytest.approx(4 * 0.5**5)


def test_a_mistyped_multiplier_suggests_the_right_one(model):
    with pytest.raises(ValueError, match=r"'pyramid.interaction'; did you mean 'pyramid.interactions'"):
        settings_by_name(model, lr_multipliers={"pyramid.interaction": 10.0})


def test_frozen_parameters_are_left_out():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    layers[0].requires_grad_(False)
    assert set(settings_by_name(layers)) == {"1.weight", "1.bias"}
    layers.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter to train"):
        OptimizerConfig(lr=1.0).build(layers)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"weight_decay": -0.1},
        {"betas": (0.9, 1.0)},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"lr_multipliers": {"head": -1.0}},
        {"lr_multipliers": {"head": "ten"}},
        {"exempt": ("vector",)},
        {"lr": "fast"},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"optimizer.{next(iter(settings))}"):
        OptimizerConfig(**({"lr": 1.0} | settings))


def test_the_update_is_that_of_adamw():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = replace(OptimizerConfig(lr=0.1), weight_decay=0.2, betas=(0.8, 0.9)).build(ours)
    reference = torch.optim.AdamW(
        [{"params": [theirs.weight], "weight_decay": 0.2}, {"params": [theirs.bias], "weight_decay": 0.0}],
        lr=0.1,
        betas=(0.8, 0.9),
    )
    for _ in range(3):
        inputs = torch.randn(4, 3)
        for layer, steps in ((ours, optimizer), (theirs, reference)):
            steps.zero_grad()
            layer(inputs).square().sum().backward()
            steps.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_a_vit_tells_the_layer_of_each_parameter():
    branch = ViT(tiny_vit(depth=12, stages=(6, 6)))
    assert branch.depth == 12
    assert branch.layer_of("pos_embed") == branch.layer_of("patch_embed.proj.bias") == 0
    assert branch.layer_of("blocks.0.norm1.weight") == 1
    assert branch.layer_of("blocks.11.mlp.fc2.bias") == 12
