"""COCO's run-length encoding of masks: lengths of alternating runs, down the columns, the first one of background."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Rle(TypedDict):
    """A mask as COCO's files and tools have it.

    Attributes:
        size: Height and width.
        counts: The lengths of the runs, packed into characters.
    """

    size: list[int]
    counts: str


def encode_rle(mask: NDArray[np.bool_]) -> Rle:
    """Encodes a mask `(H, W)`."""
    return {"size": list(mask.shape), "counts": pack_runs(mask_to_runs(mask))}


def mask_to_runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The lengths of the runs of a mask `(H, W)`."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = [0, 0] if pixels.size and pixels[0] else [0]
    return np.diff(np.concatenate([starts, changes, [pixels.size]])).astype(np.int64)


def runs_to_mask(runs: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask `(H, W)` of runs that `check_runs` has let pass."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T


def sample_runs(
    runs: NDArray[np.int64], size: tuple[int, int], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """What a mask has in some rows and columns, in any order: `(len(rows), len(columns))`.

    Only the columns from the first to the last one of the object are decoded, so that a small object is quickly done
    and a large photo takes little memory.

    Args:
        runs: Of the mask; `check_runs` has let them pass.
        size: Of the mask.
        rows: Numbers of rows.
        columns: Numbers of columns.
    """
    height = size[0]
    sampled = np.zeros((len(rows), len(columns)), dtype=bool)
    ends = runs.cumsum()
    objects = np.flatnonzero(runs[1::2]) * 2 + 1
    if not len(objects):
        return sampled
    first, last = ends[objects[0] - 1] // height, (ends[objects[-1]] - 1) // height
    lengths = np.diff(ends.clip(first * height, (last + 1) * height), prepend=first * height)
    decoded = runs_to_mask(lengths, (height, last - first + 1))
    inside = (columns >= first) & (columns <= last)
    sampled[:, inside] = decoded[rows[:, None], columns[inside] - first]
    return sampled


def check_runs(runs: NDArray[np.int64], size: tuple[int, int]) -> None:
    """Raises `ValueError` unless the runs fill the mask exactly."""
    if runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
        raise ValueError(f"the runs fill {runs.sum()} pixels, the mask has {size[0]} x {size[1]}")


def pack_runs(runs: NDArray[np.int64]) -> str:
    """Packs runs into characters.

    From the fourth run on, what is written is the difference from the last but one. A number is written in groups of
    5 bits, the low ones first, each as a character from '0' on; a sixth bit tells that more groups follow.
    """
    rest = runs.copy()
    rest[3:] -= runs[1:-2]
    groups, written = [], []
    open_numbers = np.ones(len(runs), dtype=bool)
    while open_numbers.any():
        group = rest & 31
        rest >>= 5
        more = open_numbers & (rest != np.where(group & 16, -1, 0))
        groups.append(group + 32 * more + 48)
        written.append(open_numbers)
        open_numbers = more
    if not groups:
        return ""
    characters = np.stack(groups, axis=1)[np.stack(written, axis=1)]
    return characters.astype(np.uint8).tobytes().decode("ascii")


def unpack_runs(counts: str) -> NDArray[np.int64]:
    """Reads what `pack_runs` writes.

    Raises:
        ValueError: For characters that it does not write, or a number that does not end.
    """
    groups = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    if not len(groups):
        return groups
    last = groups & 32 == 0
    if groups.min() < 0 or groups.max() > 63 or not last[-1]:
        raise ValueError("the packed runs are damaged")
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(first, len(groups)))
    if lengths.max() > 12:
        raise ValueError("the packed runs are damaged")
    shifts = 5 * (np.arange(len(groups)) - first.repeat(lengths))
    numbers: NDArray[np.int64] = np.add.reduceat((groups & 31) << shifts, first)
    numbers -= np.where(groups[last] & 16, np.left_shift(np.int64(1), 5 * lengths), 0)  # negative, in two's complement
    for start in (1, 2):
        numbers[start::2] = numbers[start::2].cumsum()
    return numbers
