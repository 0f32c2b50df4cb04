"""The masks of a whole dataset in a few arrays.

As Python lists, the polygons of COCO take gigabytes, which each worker of a data loader would copy little by little,
because reading a Python object writes to it (its reference count).
"""

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piip.batches import Size
from piip.rle import check_runs, unpack_runs

_NOTHING, _POLYGONS, _RUNS = range(3)
_MAX_SIDES = 8  # how far from the origin a corner may lie, in longer sides of the image
_MIN_NUMBERS = 6  # of a polygon: three corners


class Segments:
    """Masks as polygons or runs, numbered in the order in which they are added."""

    def __init__(self) -> None:
        self._values = array("d")  # corners of polygons, and lengths of runs
        self._part_ends = array("q", [0])  # in values; a part is a polygon or a whole mask in runs
        self._ends = array("q", [0])  # in parts
        self._kinds = array("b")

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, segmentation: Any, size: Size) -> bool:
        """Adds the next mask; one that is missing or damaged too, as no mask.

        Of polygons, those with fewer than three corners are left out.

        Args:
            segmentation: As in COCO's files: a list of polygons, or a dict of `size` and `counts`.
            size: Of the image.

        Returns:
            Whether it is a mask.
        """
        kind = _NOTHING
        parts: Sequence[Sequence[float] | NDArray[np.int64]] = []
        try:
            if isinstance(segmentation, dict):
                kind, parts = _RUNS, [_read_runs(segmentation, size)]
            elif isinstance(segmentation, list):
                parts = _read_polygons(segmentation, size)
                kind = _POLYGONS if parts else _NOTHING
        except (TypeError, ValueError, KeyError, OverflowError):
            kind, parts = _NOTHING, []
        for part in parts:
            self._values.extend(part)
            self._part_ends.append(len(self._values))
        self._ends.append(len(self._part_ends) - 1)
        self._kinds.append(kind)
        return kind != _NOTHING

    def runs(self, number: int, size: Size) -> NDArray[np.int64]:
        """The runs of a mask; the pixels of polygons are those of COCO's own tools.

        Raises:
            ImportError: If there are polygons, and faster-coco-eval is not installed.
        """
        parts = self._parts(number)
        if self._kinds[number] == _RUNS:
            return parts[0].astype(np.int64)
        tools = coco_masks()
        merged = tools.merge(tools.frPyObjects([part.tolist() for part in parts], *size))
        return unpack_runs(merged["counts"].decode())

    def as_coco(self, number: int, size: Size) -> list[list[float]] | dict[str, list[int]]:
        """A mask as it stands in COCO's files, with unpacked runs."""
        parts = self._parts(number)
        if self._kinds[number] == _RUNS:
            return {"size": list(size), "counts": parts[0].astype(np.int64).tolist()}
        return [part.tolist() for part in parts]

    def _parts(self, number: int) -> list[NDArray[np.float64]]:
        values = np.frombuffer(self._values, dtype=np.float64)
        ends = self._part_ends[self._ends[number] : self._ends[number + 1] + 1]
        return [values[start:end] for start, end in pairwise(ends)]


def coco_masks() -> Any:
    """The module of COCO's mask operations.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise ImportError("COCO's masks need faster-coco-eval: pip install 'piip[train]'") from error
    return mask


def _read_polygons(polygons: list[Any], size: Size) -> list[list[float]]:
    parts = []
    farthest = _MAX_SIDES * max(size)  # drawing takes memory in proportion to the length of the edges
    for polygon in polygons:
        if len(polygon) % 2 or not math.isfinite(sum(polygon)):
            raise ValueError("a polygon is a list of x and y")
        if len(polygon) >= _MIN_NUMBERS:
            if not -farthest <= min(polygon) <= max(polygon) <= farthest:
                raise ValueError("a polygon far outside the image")
            parts.append(polygon)
    return parts


def _read_runs(rle: dict[str, Any], size: Size) -> NDArray[np.int64]:
    counts = rle["counts"]
    runs = unpack_runs(counts) if isinstance(counts, str) else np.array(counts)
    if runs.ndim != 1 or runs.dtype != np.int64:
        raise ValueError("the runs of a mask are a list of whole numbers")
    if list(rle["size"]) != list(size):
        raise ValueError("a mask of another size than the image")
    check_runs(runs, size)
    return runs
