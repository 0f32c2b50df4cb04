"""The official name of each of our tensors: tables of prefixes, read in both directions.

Differences beyond names: the official code counts branches from 1 in all names, calls the two branches of an
interaction 1 and 2 whatever their numbers, gives its two ViT classes different names for layer scale, and has no
prefix for a model that is one branch.
"""

import re
from collections.abc import Mapping

from piip.branches import AnyBranchConfig, ViTConfig
from piip.pyramid import PyramidConfig
from piip.zoo.official.branches import is_internvit

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
_VIT = {name: name for name in ("cls_token", "pos_embed", "patch_embed", "norm", "head")}
_VIT_BLOCK = {name: name for name in ("norm1", "attn", "ls1", "norm2", "mlp", "ls2")}
_DEIT_BLOCK = _VIT_BLOCK | {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}


def official_names(names: list[str], pyramid: PyramidConfig) -> dict[str, str]:
    """Pair each of our tensor names with the official one.

    Args:
        names: the keys of a classification model's state dict.
        pyramid: its backbone.

    Raises:
        KeyError: for a name that has no official counterpart.
    """
    return {name: _official_name(name, pyramid) for name in names}


def _official_name(name: str, pyramid: PyramidConfig) -> str:
    match name.split("."):
        case ["pyramid", "branches", index, *rest]:
            own = _branch_tensor(rest, pyramid.branches[int(index)])
            return _of_branch(int(index) + 1, own, pyramid)
        case ["head", "branches", branch, *rest]:
            return _of_branch(int(branch), _translate(rest, _BRANCH_HEAD), pyramid)
        case ["pyramid", "interactions", stage, "injectors", edge, *rest]:
            source, query = (int(number) for number in re.findall(r"\d+", edge))
            direction = "branch2to1" if source > query else "branch1to2"
            unit = f"interactions.{stage}.interaction_units_{min(source, query)}{max(source, query)}"
            return f"{unit}.{_translate(rest, _INJECTOR, direction=direction)}"
        case ["head", "merging", "projections", branch, *rest]:
            return _translate(rest, _FIRST_MERGED if branch == "1" else _MERGED, branch=branch)
        case parts:
            return _translate(parts, _HEAD)


def _of_branch(branch: int, name: str, pyramid: PyramidConfig) -> str:
    return name if len(pyramid.branches) == 1 else f"branch{branch}.{name}"


def _branch_tensor(parts: list[str], branch: AnyBranchConfig) -> str:
    match parts:
        case ["blocks", block, *rest]:
            table = _VIT_BLOCK if is_internvit(branch) else _DEIT_BLOCK
            return f"blocks.{block}.{_translate(rest, table)}"
        case _:
            return _translate(parts, _VIT)


def _translate(parts: list[str], table: Mapping[str, str], **places: str) -> str:
    """Replace the longest prefix that the table has."""
    for length in range(len(parts), 0, -1):
        official = table.get(".".join(parts[:length]))
        if official is not None:
            return ".".join([official.format(**places), *parts[length:]])
    raise KeyError(".".join(parts))
