"""Deciding what becomes of every tensor before the first one is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from piip.branches import AnyBranchConfig, BEiTConfig, ViTConfig
from piip.branches.transformer import TransformerConfig
from piip.weights import WeightsError
from piip.zoo.names import branch_tensor
from piip.zoo.pretrained.checkpoint import Checkpoint
from piip.zoo.pretrained.families import FAMILIES, FamilyFormat
from piip.zoo.pretrained.relative_positions import fit_tables
from piip.zoo.pretrained.report import summarise
from piip.zoo.pretrained.resample import fit_patch_kernel, fit_pos_embed

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes into a branch, and why the rest does not; all by their names in our branch.

    Attributes:
        tensors: what goes into the branch and its head.
        adapted: which of them are not as in the checkpoint, and what was done to them.
        kept: tensors of the branch and its head that stay as they are, and why.
        ignored: tensors of the checkpoint that go nowhere, and why.
    """

    tensors: Tensors
    adapted: Mapping[str, str]
    kept: Mapping[str, str]
    ignored: Mapping[str, str]


def make_plan(checkpoint: Checkpoint, own: Tensors, config: AnyBranchConfig) -> Plan:
    """Fit a checkpoint to a branch, without changing either.

    Args:
        checkpoint: what is to be loaded.
        own: the tensors of the branch, and where it has a head of its own those of `norm` and `head`.
        config: of the branch.

    Raises:
        WeightsError: listing the tensors that are missing, left over or of another shape, and the settings of the
            branch that differ from the checkpoint's.
    """
    form = FAMILIES[checkpoint.family]
    if not isinstance(config, form.branch):
        raise WeightsError(f"{checkpoint.family!r} is for a {form.branch.__name__}, not a {type(config).__name__}")
    foreign = {name: reason for name in checkpoint.tensors if (reason := form.why_ignored(name))}
    theirs = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in foreign}
    fitted, adapted = _fit(_renamed(theirs, own, config), config)
    ignored = {name: reason for name in fitted if (reason := _why_ignore(name, fitted, own))}
    tensors = {name: tensor for name, tensor in fitted.items() if name not in ignored}
    kept = {name: reason for name in own if name not in tensors and (reason := _why_keep(name, tensors, form))}
    misfits = _misfits(tensors, {name: tensor for name, tensor in own.items() if name not in kept})
    if misfits or checkpoint.num_heads not in (None, _num_heads(config)):
        differences = _differences(checkpoint, fitted, own, config, form)
        raise WeightsError("\n  ".join(["the checkpoint does not fit the branch", *differences, *misfits]))
    return Plan(tensors=tensors, adapted=adapted, kept=kept, ignored=foreign | ignored)


def _renamed(tensors: Tensors, own: Tensors, config: AnyBranchConfig) -> Tensors:
    """The tensors by their names in our branch; those that it has no such tensor for keep theirs."""
    if isinstance(config, ViTConfig):
        return tensors
    heads = ("norm.", "head.")
    names = {branch_tensor(name.split("."), config): name for name in own if not name.startswith(heads)}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _fit(tensors: Tensors, config: AnyBranchConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors at the sizes of the branch, and what was done to which."""
    fitted, done = dict(tensors), dict[str, str]()
    if isinstance(config, BEiTConfig):
        fitted, done = fit_tables(tensors, config)
    if isinstance(config, ViTConfig):
        if "pos_embed" in fitted:
            fitted["pos_embed"], done["pos_embed"] = fit_pos_embed(fitted["pos_embed"], config)
        kernel = "patch_embed.proj.weight"
        if kernel in fitted:
            fitted[kernel], done[kernel] = fit_patch_kernel(fitted[kernel], config.patch_size)
    return fitted, {name: what for name, what in done.items() if what}


def _why_ignore(name: str, tensors: Tensors, own: Tensors) -> str:
    part = name.partition(".")[0]
    if name == "cls_token" and name not in own:
        return "the branch has no class token"
    if part not in ("norm", "head"):
        return ""
    if "head.weight" not in own:
        return "the model has no head of its own on this branch"
    if part == "head" and "head.weight" in tensors and len(tensors["head.weight"]) != len(own["head.weight"]):
        return f"is for {len(tensors['head.weight'])} classes, and the model has {len(own['head.weight'])}"
    return ""


def _why_keep(name: str, tensors: Tensors, form: FamilyFormat) -> str:
    if name.endswith((".ls1.gamma", ".ls2.gamma")):
        return "" if form.layer_scale else "this family has no layer scales"
    part = name.partition(".")[0]
    if part in ("norm", "head") and not any(other.startswith(f"{part}.") for other in tensors):
        return "the checkpoint has none that fits"
    return ""


def _misfits(tensors: Tensors, own: Tensors) -> list[str]:
    missing = summarise(name for name in own if name not in tensors)
    unexpected = summarise(name for name in tensors if name not in own)
    reshaped = summarise(
        f"{name} {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    )
    lists = (("missing", missing, ", "), ("unexpected", unexpected, ", "), ("of another shape", reshaped, "; "))
    return [f"{what}: {separator.join(names)}" for what, names, separator in lists if names]


def _num_heads(config: AnyBranchConfig) -> int | None:
    return config.num_heads if isinstance(config, TransformerConfig) else None


def _differences(
    checkpoint: Checkpoint, tensors: Tensors, own: Tensors, config: AnyBranchConfig, form: FamilyFormat
) -> list[str]:
    """The settings of the branch that the checkpoint contradicts."""
    theirs, ours, num_heads = _settings(tensors), _settings(own), _num_heads(config)
    if checkpoint.num_heads is not None and num_heads is not None:
        theirs, ours = theirs | {"num_heads": checkpoint.num_heads}, ours | {"num_heads": num_heads}
    if not form.layer_scale:
        theirs.pop("layer_scale", None)
    return [
        f"{setting}: {theirs[setting]} in the checkpoint, {ours[setting]} in the branch"
        for setting in ours
        if setting in theirs and theirs[setting] != ours[setting]
    ]


def _settings(tensors: Tensors) -> dict[str, int | float | str]:
    """What the names and shapes of a transformer's tensors tell about its configuration, in the words of ours."""
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    settings: dict[str, int | float | str] = {}
    kernel, hidden = tensors.get("patch_embed.proj.weight"), tensors.get("blocks.0.mlp.fc1.weight")
    if kernel is not None and kernel.dim() == 4:
        settings |= {"embed_dim": kernel.shape[0], "in_channels": kernel.shape[1]}
    if blocks:
        settings["depth"] = len(blocks)
        settings["qkv_bias"] = str("blocks.0.attn.qkv.bias" in tensors)
        settings["qk_norm"] = str("blocks.0.attn.q_norm.weight" in tensors)
        settings["norm"] = "layernorm" if "blocks.0.norm1.bias" in tensors else "rmsnorm"
        settings["layer_scale"] = "present" if "blocks.0.ls1.gamma" in tensors else "None"
    if hidden is not None and hidden.dim() == 2:
        settings["mlp_ratio"] = hidden.shape[0] / hidden.shape[1]
    return settings
