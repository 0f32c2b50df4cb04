"""The official constructor arguments of segmentation backbones, as our configuration."""

from piip.branches import ViTConfig
from piip.config import ConfigError
from piip.pyramid import BackboneConfig, PyramidConfig
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import BRANCH_OUTPUTS
from piip.zoo.official.detection import SIMPLE_LEVELS, check_sizes, single_vit
from piip.zoo.official.pyramid import branch_arguments, read_interaction
from piip.zoo.official.vit import SINGLE, segmentation_vit

CLASSES = ("PIIPTwoBranch", "PIIPThreeBranch", *SINGLE)
INPUT_BRANCH_OF_THREE = 2

_OTHERS = ("beit", "perceiver", "convnext")  # what `pretrained` names in detection for branches of other classes


def backbone_config(arguments: Arguments) -> BackboneConfig:
    """Translate the arguments of a pyramid, or of one model alone.

    Raises:
        ConfigError: for arguments that are missing, of the wrong type, or mean what cannot be run.
    """
    if arguments.get("type", str) in SINGLE:
        return single_vit(arguments, segmentation_vit)
    return _pyramid(arguments)


def _pyramid(arguments: Arguments) -> BackboneConfig:
    arguments.ignore("pretrained")  # of the whole model
    of_branches = branch_arguments(arguments)
    branches = tuple(_branch(branch) for branch in of_branches)
    for read in of_branches:
        read.finish()
    check_sizes(arguments, branches)
    interaction = read_interaction(arguments)
    arguments.finish()
    # The official pyramid of three branches is given the image of the second, and enlarges it for the third.
    input_branch = INPUT_BRANCH_OF_THREE if len(branches) == 3 else None
    with arguments.blamed():
        pyramid = PyramidConfig(branches=branches, interaction=interaction, input_branch=input_branch)
        return BackboneConfig(pyramid=pyramid, levels=SIMPLE_LEVELS)


def _branch(arguments: Arguments) -> ViTConfig:
    arguments.ignore(*BRANCH_OUTPUTS)
    pretrained = arguments.get("pretrained", str)
    if "deit" in pretrained:
        return segmentation_vit(arguments, "deit")
    other = next((name for name in _OTHERS if name in pretrained), None)
    if other is not None:
        raise ConfigError(
            f"{arguments.where}.pretrained: {pretrained!r} names a branch of kind {other}, which the official "
            "segmentation code does not have; it has vit_models and InternViT6B"
        )
    return segmentation_vit(arguments, "internvit")
