"""The official name of each of our tensors: tables of prefixes, read in both directions.

Differences beyond names: the official code counts branches from 1 in all names, calls the two branches of an
interaction 1 and 2 whatever their numbers, and has no prefix for a model that is one branch.
"""

import re
from collections.abc import Iterable

from piip.branches import AnyBranchConfig, ConvNeXtConfig
from piip.pyramid import BackboneConfig, PyramidConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.detection.dino import DINOConfig
from piip.tasks.detection.mask_rcnn import MaskRCNNConfig
from piip.tasks.models import AnyModelConfig
from piip.tasks.segmentation.upernet import UperNetConfig
from piip.zoo.names import branch_tensor, translate

_HEAD = {
    "head.norm": "cls_norm",
    "head.linear": "cls_head",
}
_BRANCH_HEAD = {
    "norm": "norm",
    "linear": "head",
}
_FIRST_MERGED = {
    "weight": "w{branch}",
    "norm": "merge_branch{branch}",
}
_MERGED = {
    "weight": "w{branch}",
    "norm": "merge_branch{branch}.0",
    "proj": "merge_branch{branch}.2",
    "proj_norm": "merge_branch{branch}.4",
}
_CONV_MERGED = {
    "weight": "w{branch}",
    "layers": "merge_branch{branch}",
}
_CONV_MERGED_BEFORE = {  # after an interaction that is not the last
    "weight": "intermediate_merging_{stage}_w{branch}",
    "layers": "intermediate_merging_{stage}_branch{branch}",
}
_LEVELS = {4: "1", 2: "2", 1: "3", 0.5: "4"}  # by the scale
_INJECTOR = {
    "source_proj": "{direction}_proj",
    "query_norm": "{direction}_injector.query_norm",
    "source_norm": "{direction}_injector.feat_norm",
    "attn.deformable": "{direction}_injector.attn",
    "attn.q_proj": "{direction}_injector.attn.wq",
    "attn.k_proj": "{direction}_injector.attn.wk",
    "attn.v_proj": "{direction}_injector.attn.wv",
    "attn.proj": "{direction}_injector.attn.proj",
    "attn_scale": "{direction}_injector.ca_gamma",
    "feed_forward.norm": "{direction}_injector.ffn_norm",
    "feed_forward.ffn.fc1": "{direction}_injector.ffn.fc1",
    "feed_forward.ffn.dwconv": "{direction}_injector.ffn.dwconv.dwconv",
    "feed_forward.ffn.fc2": "{direction}_injector.ffn.fc2",
    "feed_forward.scale": "{direction}_injector.cffn_gamma",
}


_MASK_RCNN = {
    "rpn.conv": "rpn_head.rpn_conv",
    "rpn.objectness": "rpn_head.rpn_cls",
    "rpn.deltas": "rpn_head.rpn_reg",
    "box_head.fc1": "roi_head.bbox_head.shared_fcs.0",
    "box_head.fc2": "roi_head.bbox_head.shared_fcs.1",
    "box_head.classifier": "roi_head.bbox_head.fc_cls",
    "box_head.regressor": "roi_head.bbox_head.fc_reg",
    "mask_head.upsample": "roi_head.mask_head.upsample",
    "mask_head.logits": "roi_head.mask_head.conv_logits",
}
_CONV_LISTS = {
    "fpn.lateral": "neck.lateral_convs",
    "fpn.output": "neck.fpn_convs",
    "mask_head.convs": "roi_head.mask_head.convs",
}
_DINO = {
    "neck.maps": "neck.convs",
    "neck.extra": "neck.extra_convs",
    "encoder.level_embed": "bbox_head.transformer.level_embeds",
    "selection.proj": "bbox_head.transformer.enc_output",
    "selection.norm": "bbox_head.transformer.enc_output_norm",
    "decoder.queries": "bbox_head.transformer.query_embed",
    "decoder.position_mlp": "bbox_head.transformer.decoder.ref_point_head",
    "decoder.norm": "bbox_head.transformer.decoder.norm",
    "decoder.classifiers": "bbox_head.cls_branches",
    "decoder.regressors": "bbox_head.reg_branches",
    "selection.classifier": "bbox_head.cls_branches.{selection}",
    "selection.regressor": "bbox_head.reg_branches.{selection}",
    "denoising.label_embed": "bbox_head.label_embedding",
}
_DINO_LAYER = {
    "attn": "attentions.0",
    "self_attn": "attentions.0.attn",
    "cross_attn": "attentions.1",
    "norm1": "norms.0",
    "norm2": "norms.1",
    "norm3": "norms.2",
    "mlp.fc1": "ffns.0.layers.0.0",
    "mlp.fc2": "ffns.0.layers.1",
}
_UPERNET = {
    "decode_head.bottleneck": "decode_head.bottleneck",
    "decode_head.fusion": "decode_head.fpn_bottleneck",
    "decode_head.classifier": "decode_head.conv_seg",
    "auxiliary_head.classifier": "auxiliary_head.conv_seg",
}
_BLOCK_LISTS = {
    "pooled": "psp_modules.{number}.1",
    "lateral": "lateral_convs.{number}",
    "output": "fpn_convs.{number}",
    "convs": "convs.{number}",
}


def official_names(names: Iterable[str], config: AnyModelConfig) -> dict[str, str]:
    """Pair each of our tensor names with the official one.

    Args:
        names: keys of a model's state dict.
        config: of the model.

    Raises:
        KeyError: for a name that has no official counterpart.
    """
    match config:
        case MaskRCNNConfig():
            return {name: _mask_rcnn_tensor(name.split("."), config) for name in names}
        case DINOConfig():
            return {name: _dino_tensor(name.split("."), config) for name in names}
        case UperNetConfig():
            return {name: _upernet_tensor(name.split("."), config) for name in names}
        case BackboneConfig():
            return {name: _backbone_tensor(name.split("."), config) for name in names}
        case _:
            return {name: _classifier_tensor(name.split("."), config) for name in names}


def level_name(scale: float, config: BackboneConfig) -> str:
    """The official name of the module that makes the level of a scale."""
    return f"{'fpn' if len(config.pyramid.branches) > 1 else 'up'}{_LEVELS[scale]}"


def of_branch(branch: int, name: str, pyramid: PyramidConfig) -> str:
    """The official name of what is called `name` in a branch, counted from 1."""
    return name if len(pyramid.branches) == 1 else f"branch{branch}.{name}"


def _classifier_tensor(parts: list[str], config: ClassificationConfig) -> str:
    match parts:
        case ["pyramid", *rest]:
            return _pyramid_tensor(rest, config.pyramid)
        case ["head", "branches", branch, *rest]:
            return of_branch(int(branch), translate(rest, _BRANCH_HEAD), config.pyramid)
        case ["head", "merging", "projections", branch, *rest]:
            return translate(rest, _FIRST_MERGED if branch == "1" else _MERGED, branch=branch)
        case _:
            return translate(parts, _HEAD)


def _mask_rcnn_tensor(parts: list[str], config: MaskRCNNConfig) -> str:
    match parts:
        case ["backbone", *rest]:
            return f"backbone.{_backbone_tensor(rest, config.backbone)}"
        case ["fpn" | "mask_head" as module, "lateral" | "output" | "convs" as convs, number, leaf]:
            return f"{_CONV_LISTS[f'{module}.{convs}']}.{number}.conv.{leaf}"
        case _:
            return translate(parts, _MASK_RCNN)


def _dino_tensor(parts: list[str], config: DINOConfig) -> str:
    match parts:
        case ["backbone", *rest]:
            return f"backbone.{_backbone_tensor(rest, config.backbone)}"
        case ["encoder" | "decoder" as side, "layers", layer, *rest]:
            return f"bbox_head.transformer.{side}.layers.{layer}.{translate(rest, _DINO_LAYER)}"
        case ["neck", _, _, "norm", leaf]:
            return f"{translate(parts[:3], _DINO)}.gn.{leaf}"
        case _:  # the encoder's predictions follow those of the decoder's layers
            return translate(parts, _DINO, selection=str(config.transformer.decoder_layers))


def _upernet_tensor(parts: list[str], config: UperNetConfig) -> str:
    match parts:
        case ["backbone", *rest]:
            return f"backbone.{_backbone_tensor(rest, config.backbone)}"
        case [*block, "norm", leaf]:
            return f"{_upernet_block(block)}.bn.{leaf}"
        case _:
            return _upernet_block(parts)


def _upernet_block(parts: list[str]) -> str:
    match parts:
        case [head, "pooled" | "lateral" | "output" | "convs" as blocks, number, *rest]:
            return ".".join([head, _BLOCK_LISTS[blocks].format(number=number), *rest])
        case _:
            return translate(parts, _UPERNET)


def _backbone_tensor(parts: list[str], config: BackboneConfig) -> str:
    match parts:
        case ["pyramid", *rest]:
            return _pyramid_tensor(rest, config.pyramid)
        case ["merging", stage, "projections", branch, *rest]:
            last = int(stage) == config.pyramid.num_stages - 1
            return translate(rest, _CONV_MERGED if last else _CONV_MERGED_BEFORE, stage=stage, branch=branch)
        case ["levels", number, *rest]:
            return ".".join([level_name(config.levels[int(number)].scale, config), *rest])
        case _:
            raise KeyError(".".join(parts))


def _pyramid_tensor(parts: list[str], pyramid: PyramidConfig) -> str:
    match parts:
        case ["branches", index, *rest]:
            return of_branch(int(index) + 1, _branch_tensor(rest, pyramid.branches[int(index)]), pyramid)
        case ["interactions", stage, "injectors", edge, *rest]:
            source, query = (int(number) for number in re.findall(r"\d+", edge))
            direction = "branch2to1" if source > query else "branch1to2"
            unit = f"interactions.{stage}.interaction_units_{min(source, query)}{max(source, query)}"
            return f"{unit}.{translate(rest, _INJECTOR, direction=direction)}"
        case _:
            raise KeyError(".".join(parts))


def _branch_tensor(parts: list[str], branch: AnyBranchConfig) -> str:
    name = branch_tensor(parts, branch)
    return f"convnext_model.{name}" if isinstance(branch, ConvNeXtConfig) else name
