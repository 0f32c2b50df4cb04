"""The official constructor arguments that all tasks' pyramids share, as our configuration."""

from collections.abc import Mapping

from piip.pyramid import InteractionConfig
from piip.zoo.official.arguments import Arguments

NUM_BRANCHES = {"PIIPTwoBranch": 2, "PIIPThreeBranch": 3, "PIIPFourBranch": 4}


def branch_arguments(arguments: Arguments) -> list[Arguments]:
    """The arguments of each branch, from branch 1 on."""
    names = [f"branch{number}" for number in range(1, NUM_BRANCHES[arguments.get("type", str)] + 1)]
    return [Arguments(arguments.get(name, Mapping), f"{arguments.where}.{name}") for name in names]


def read_interaction(arguments: Arguments) -> InteractionConfig:
    """The interactions of a pyramid."""
    with_cffn = arguments.get("with_cffn", bool, False)
    cffn_ratio = float(arguments.get("cffn_ratio", float, 0.25))
    with arguments.blamed():
        return InteractionConfig(
            attention=arguments.choose("interact_attn_type", {"deform": "deformable", "normal": "regular"}),
            num_heads=arguments.get("deform_num_heads", int),
            num_points=arguments.get("n_points", int),
            value_ratio=float(arguments.get("deform_ratio", float)),
            projection=arguments.get("interaction_proj", bool, True),
            norm=arguments.choose("norm_layer", {None: True, "LayerNorm": True, "none": False}, None),
            ffn_ratio=cffn_ratio if with_cffn else None,
            drop_path=float(arguments.get("interaction_drop_path_rate", float, 0.0)),
        )
