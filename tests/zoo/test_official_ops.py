"""Single blocks and interactions against what the official code computed, with every gradient."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from parity import assert_matches, load_case, reference_operand, reference_state_dict
from piip.branches import Tokens
from piip.branches.layers import Block
from piip.pyramid import PyramidConfig
from piip.pyramid.attention import CellCentres
from piip.pyramid.interaction import Injector, Interaction, InteractionConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.zoo.official.keys import official_names
from tiny_models import tiny_pyramid, tiny_vit

Outputs = dict[str, Tensor]


def check(
    case_name: str,
    module: nn.Module,
    place: tuple[str, str],
    pyramid: PyramidConfig,
    forward: Callable[..., Outputs],
) -> None:
    """Give the module the weights and inputs of the case, and compare outputs and all gradients.

    `place` is where such a module stands in a whole model: the prefix of its names with us, and officially.
    """
    case, arrays = load_case(case_name)
    own, official = place
    names = official_names([own + name for name in module.state_dict()], ClassificationConfig(pyramid=pyramid))
    names = {ours.removeprefix(own): theirs.removeprefix(official) for ours, theirs in names.items()}
    shapes = {names[name]: parameter.shape for name, parameter in module.state_dict().items()}
    weights = reference_state_dict(shapes, case["weights_seed"])
    module.load_state_dict({name: weights[theirs] for name, theirs in names.items()})

    inputs = {name: reference_operand(operand).requires_grad_() for name, operand in case["inputs"].items()}
    outputs = forward(**inputs)
    loss = sum((outputs[name] * reference_operand(cotangent)).sum() for name, cotangent in case["cotangents"].items())
    loss.backward()

    assert loss.item() == pytest.approx(case["loss"], rel=1e-5, abs=1e-4)
    computed = outputs | {f"grad.{name}": tensor.grad for name, tensor in inputs.items()}
    computed |= {f"grad.param.{names[name]}": parameter.grad for name, parameter in module.named_parameters()}
    assert set(computed) == set(case["outputs"])
    for name, tensor in computed.items():
        assert_matches(tensor, case, arrays, name, atol=1e-5 * max(1.0, case["outputs"][name]["absmax"]))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("op_deit_block", {"layer_scale": 1.0}),
        ("op_deit_block_window_naive", {"layer_scale": 1.0, "window_size": 3, "window_padding": "qkv"}),
        (
            "op_internvit_block_rms_qknorm",
            {
                "layer_scale": 0.1,
                "norm": "rmsnorm",
                "qk_norm": True,
                "qkv_bias": False,
                "class_pos_embed": "unused",
            },
        ),
        (
            "op_internvit_block_window",
            {
                "layer_scale": 0.1,
                "norm": "rmsnorm",
                "qk_norm": True,
                "window_size": 3,
                "window_padding": "tokens",
                "class_pos_embed": "unused",
            },
        ),
    ],
)
def test_block(name: str, settings: dict[str, Any]) -> None:
    vit = tiny_vit(depth=1, stages=(1,), embed_dim=64, num_heads=4, class_token=False, **settings)
    block = vit.build().blocks[0]
    assert isinstance(block, Block)
    grid = load_case(name)[0]["grid_hw"]

    def forward(x: Tensor) -> Outputs:
        return {"out": block(x.unflatten(1, grid)).flatten(1, 2)}

    check(name, block, ("pyramid.branches.0.blocks.0.", "blocks.0."), tiny_pyramid(vit), forward)


@pytest.mark.parametrize(
    ("name", "attention"), [("op_injector_deform", "deformable"), ("op_injector_normal", "regular")]
)
def test_injector(name: str, attention: str) -> None:
    case, _ = load_case(name)
    config = InteractionConfig(num_heads=4, attention=attention, projection=False)
    injector = Injector(config, 64, case["kwargs"]["dim_feat"])

    def forward(query: Tensor, feat: Tensor) -> Outputs:
        source = feat.unflatten(1, case["feat_grid_hw"])
        return {"out": injector(query.unflatten(1, case["query_grid_hw"]), source, CellCentres()).flatten(1, 2)}

    place = ("pyramid.interactions.0.injectors.2to1.", "interactions.0.interaction_units_12.branch2to1_injector.")
    check(name, injector, place, tiny_pyramid(), forward)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("op_unit_deform", {}), ("op_unit_deform_noproj", {"projection": False, "norm": False})],
)
def test_unit(name: str, settings: dict[str, Any]) -> None:
    case, _ = load_case(name)
    interaction = Interaction(InteractionConfig(num_heads=4, **settings), 0, (64, 32))

    def forward(x1: Tensor, x2: Tensor) -> Outputs:
        maps = (x1.unflatten(1, case["grid1_hw"]), x2.unflatten(1, case["grid2_hw"]))
        first, second = interaction([Tokens(tokens) for tokens in maps], CellCentres())
        return {"x1": first.map.flatten(1, 2), "x2": second.map.flatten(1, 2)}

    place = ("pyramid.interactions.0.", "interactions.0.interaction_units_12.")
    check(name, interaction, place, tiny_pyramid(), forward)
