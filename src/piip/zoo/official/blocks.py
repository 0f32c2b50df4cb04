"""The official constructor arguments that say how the blocks of a branch are split, windowed and sized."""

from typing import Any

from piip.config import ConfigError
from piip.zoo.official.arguments import Arguments


def transformer_settings(arguments: Arguments) -> dict[str, Any]:
    """The settings that every official transformer has, but for its windows."""
    depth = arguments.get("depth", int)
    stages, unused = read_stages(arguments, depth)
    return {
        "depth": depth,
        "embed_dim": arguments.get("embed_dim", int),
        "num_heads": arguments.get("num_heads", int),
        "stages": stages,
        "unused_blocks": unused,
        "patch_size": arguments.get("patch_size", int, 16),
        "mlp_ratio": float(arguments.get("mlp_ratio", float, 4.0)),
        "drop_path": float(arguments.get("drop_path_rate", float, 0.0)),
        "activation_checkpointing": arguments.get("with_cp", bool, False),
    }


def read_stages(arguments: Arguments, depth: int) -> tuple[tuple[int, ...], int]:
    """The number of blocks in each stage, and of those after the last."""
    ranges = arguments.get("interaction_indexes", (list, tuple, type(None)), None)
    if ranges is None:
        return (depth,), 0
    stages: list[int] = []
    for entry in ranges:
        if not isinstance(entry, list | tuple) or [type(index) for index in entry] != [int, int]:
            raise ConfigError(f"{arguments.where}.interaction_indexes: expected pairs (first, last), got {entry!r}")
        first, last = entry
        blocks = range(depth)[first : last + 1]  # the official code slices its blocks: what is not there is left out
        if blocks and blocks.start != sum(stages):
            raise ConfigError(
                f"{arguments.where}.interaction_indexes: {[first, last]} begins with block {blocks.start}, but the "
                f"next one is {sum(stages)}; blocks are run once each, in their order"
            )
        stages.append(len(blocks))
    return tuple(stages), depth - sum(stages)


def read_windows(arguments: Arguments, depth: int) -> tuple[int | None, ...] | None:
    """The window of each block, or None where no block has one."""
    windowed = arguments.each("window_attn", bool, False, depth)
    if not any(windowed):
        arguments.ignore("window_size")
        return None
    sizes = arguments.each("window_size", int, 14, depth)
    return tuple(size if used else None for used, size in zip(windowed, sizes, strict=True))
