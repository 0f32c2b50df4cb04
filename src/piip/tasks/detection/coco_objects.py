"""The objects of a dataset in the format of COCO: which of them can be used, and how."""

import math
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piip.problems import Problems
from piip.tasks.detection.checks import Problem
from piip.tasks.detection.coco_images import ImageEntry
from piip.tasks.detection.segments import Segments


def read_objects(
    entries: list[Any],
    images: Mapping[int, ImageEntry],
    used: Mapping[int, ImageEntry],
    labels: Mapping[int, int],
    problems: Problems,
) -> dict[str, Any]:
    """Reads the objects of the images that are used, and groups them by image.

    Args:
        entries: As they stand in the file.
        images: Those in the file, by id.
        used: Those of them that are used.
        labels: By category id.
        problems: Gets what is wrong.

    Returns:
        The fields of `CocoAnnotations` that tell about objects.
    """
    places = {number: place for place, number in enumerate(used)}
    columns = {name: array(code) for name, code in zip(("image", "label", "id", "flags"), "qqqb", strict=True)}
    boxes, areas, segments = array("d"), array("d"), Segments()
    for entry, box, area, number in _valid_annotations(entries, images, labels, problems):
        place = places.get(entry["image_id"])
        if place is None:
            continue
        has_mask = segments.add(entry.get("segmentation"), used[entry["image_id"]].size)
        is_crowd, is_ignored = bool(entry.get("iscrowd")), bool(entry.get("ignore"))
        columns["image"].append(place)
        columns["label"].append(labels[entry["category_id"]])
        columns["id"].append(number)
        columns["flags"].append(is_crowd + 2 * is_ignored + 4 * has_mask)
        boxes.extend(box)
        areas.append(area)
    order = np.argsort(np.array(columns["image"], dtype=np.int64), kind="stable")
    image, label, ids, flags = (np.array(column, dtype=np.int64)[order] for column in columns.values())
    box_array = np.array(boxes, dtype=np.float64).reshape(-1, 4)[order]
    area_array = np.array(areas, dtype=np.float64)[order]
    masked = flags & 4 > 0
    if masked.any():
        _report(problems, Problem.BAD_MASK, ids[~masked])
    sizes = np.array([item.size for item in used.values()], dtype=np.float64)[image]
    can_be_seen = _check_boxes(box_array, area_array, sizes, ids, problems)
    return {
        "starts": np.searchsorted(image, np.arange(len(used) + 1)),
        "labels": label,
        "boxes": box_array,
        "areas": area_array,
        "is_crowd": flags & 1 > 0,
        "is_trained_on": can_be_seen & (flags & 3 == 0),
        "has_mask": masked,
        "segment_numbers": order,
        "segments": segments,
    }


def _valid_annotations(
    entries: list[Any], images: Mapping[int, ImageEntry], labels: Mapping[int, int], problems: Problems
) -> Iterator[tuple[dict[str, Any], list[float], float, int]]:
    """Yields the entries that refer to what there is, with box, area and id (for messages)."""
    for place, entry in enumerate(entries):
        measures = _read_measures(entry)
        if measures is None:
            problems.add(Problem.UNREADABLE_ANNOTATION, f"annotations[{place}]")
            continue
        number = entry["id"] if type(entry.get("id")) is int else place
        image, category = entry["image_id"], entry["category_id"]
        if image not in images:
            problems.add(Problem.UNKNOWN_IMAGE, f"annotation {number}: image {image}")
        elif category not in labels:
            problems.add(Problem.UNKNOWN_CATEGORY, f"annotation {number}: category {category}")
        else:
            yield entry, *measures, number


def _read_measures(entry: Any) -> tuple[list[float], float] | None:
    """Box and area of an entry, or None if it is damaged."""
    try:
        box = [float(value) for value in entry["bbox"]]
        area = entry.get("area")
        area = box[2] * box[3] if area is None else float(area)
        readable = type(entry["image_id"]) is type(entry["category_id"]) is int and len(box) == 4
        return (box, area) if readable and math.isfinite(sum(box) + area) else None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return None


def _check_boxes(
    boxes: NDArray[np.float64],
    areas: NDArray[np.float64],
    sizes: NDArray[np.float64],
    ids: NDArray[np.int64],
    problems: Problems,
) -> NDArray[np.bool_]:
    """Tells which objects are large enough and inside their image, by the rules of the official release."""
    start, extent, limits = boxes[:, :2], boxes[:, 2:], sizes[:, ::-1]
    end = start + extent
    is_empty = (extent <= 0).any(axis=1) | (areas <= 0)
    is_outside = ~is_empty & (np.minimum(end, limits) <= np.maximum(start, 0)).any(axis=1)
    reaches_out = ~is_empty & ~is_outside & ((start < -1) | (end > limits + 1)).any(axis=1)
    for problem, found in (
        (Problem.EMPTY_BOX, is_empty),
        (Problem.BOX_OUTSIDE, is_outside),
        (Problem.BOX_REACHES_OUT, reaches_out),
    ):
        _report(problems, problem, ids[found])
    is_large_enough = (extent >= 1).all(axis=1)
    usable: NDArray[np.bool_] = np.logical_and.reduce([is_large_enough, ~is_empty, ~is_outside])
    return usable


def _report(problems: Problems, problem: Problem, ids: NDArray[np.int64]) -> None:
    for number in ids.tolist():
        problems.add(problem, f"annotation {number}")
