"""The relative position biases of a BEiT for windows of another size, as the official loader makes them."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from piip.branches import BEiTConfig
from piip.weights import WeightsError

_TABLE = "relative_position_bias_table"
_SHARED = f"rel_pos_bias.{_TABLE}"  # of all blocks, in checkpoints that have not been fine-tuned
_CLASS_ROWS = 3  # to, from and within the class token


def fit_tables(tensors: Mapping[str, Tensor], config: BEiTConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Fit the tables of a checkpoint to the windows of a branch.

    Args:
        tensors: by their names in our BEiT; a table that all blocks share has its name in theirs.
        config: of the branch.

    Returns:
        The tensors, and what was done to which, in words.

    Raises:
        WeightsError: for a table that is not of a square window.
    """
    fitted, done = dict(tensors), {}
    shared = fitted.pop(_SHARED, None)
    for block, size in enumerate(config.windows):
        name = f"blocks.{block}.attn.{_TABLE}"
        table = fitted.get(name, shared)
        if table is not None:
            fitted[name], what = _fit_table(table, size, name)
            done[name] = ", ".join([*(["copied from the shared table"] if shared is not None else []), *what])
    return fitted, done


def _fit_table(table: Tensor, size: int, name: str) -> tuple[Tensor, list[str]]:
    """Fit one table ((2 * s - 1) ** 2 and maybe 3 rows, heads) to windows of a size."""
    side = math.isqrt(len(table))
    done = []
    if side**2 != len(table):
        table = table[:-_CLASS_ROWS]
        side = math.isqrt(len(table))
        done.append("class rows dropped")
    if side**2 != len(table) or side % 2 == 0:
        raise WeightsError(f"{name}: {len(table)} rows are not those of a square window")
    wanted = 2 * size - 1
    if side != wanted:
        table = _resample(table.unflatten(0, (side, side)), wanted).flatten(0, 1)
        done.append(f"offsets {side}x{side} resampled to {wanted}x{wanted}")
    return table, done


def _resample(grid: Tensor, side: int) -> Tensor:
    """Resample biases (s, s, heads) of offsets to (side, side, heads): cubic splines, exact near the offset 0.

    The known offsets are taken to lie in geometric progression, close together around 0, so that the largest ones of
    both sizes meet.
    """
    known = _progression(len(grid) // 2, side // 2)
    target = np.arange(side) - side // 2
    heads = [RectBivariateSpline(known, known, head)(target, target) for head in grid.double().permute(2, 0, 1).numpy()]
    return torch.from_numpy(np.stack(heads, axis=-1)).to(grid.dtype)


def _progression(count: int, reach: int) -> np.ndarray:
    """The places -x(count), ..., -x(1), 0, x(1), ..., x(count), with x(n) = 1 + q + ... + q^(n-1) and x(count) = reach.

    The bisection for q keeps to the official bounds and precision, on which the result depends.
    """
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**count) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    places = np.cumsum(ratio ** np.arange(count))
    return np.concatenate([-places[::-1], [0.0], places])
