"""COCO's average precision, and results in its format."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from piip.rle import Rle
from piip.tasks.detection.coco import CocoAnnotations
from piip.tasks.detection.masks import encode_masks
from piip.tasks.detection.structures import Detections


class CocoResult(TypedDict):
    """One detection, as COCO's result files have it.

    Attributes:
        image_id: Of the image.
        category_id: Of the class, in the dataset.
        bbox: x, y, width, height in pixels.
        score: From 0 to 1.
        segmentation: Of detectors with masks.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    segmentation: NotRequired[Rle]


@dataclass(frozen=True, kw_only=True)
class CocoScores:
    """COCO's twelve numbers, for boxes or for masks, in per cent (0 to 100).

    None stands where there is nothing to find, for example no small object.

    Attributes:
        ap: Average precision, the mean over IoU thresholds 0.50, 0.55, ..., 0.95 and classes.
        ap50: At an IoU of 0.50.
        ap75: At an IoU of 0.75.
        ap_small: Of objects of less than 32 x 32 pixels.
        ap_medium: Of objects up to 96 x 96 pixels.
        ap_large: Of larger objects.
        ar_1: Average recall, with one detection for each class and image.
        ar_10: With ten.
        ar_100: With a hundred.
        ar_small: With a hundred, of small objects.
        ar_medium: With a hundred, of medium ones.
        ar_large: With a hundred, of large ones.
        per_class: Average precision of each label.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: tuple[float | None, ...]


_NAMES = [field.name for field in fields(CocoScores)][:12]  # in the order of COCO's tools


@dataclass(frozen=True, kw_only=True)
class DetectionScores:
    """What an evaluation found.

    Attributes:
        box: How well boxes fit.
        mask: How well masks fit; None without masks, of the detector or of the dataset.
        num_images: Images counted.
    """

    box: CocoScores
    mask: CocoScores | None
    num_images: int


def coco_results(annotations: CocoAnnotations, image: int, detections: Detections) -> list[CocoResult]:
    """Detections in COCO's format; those of classes that the dataset does not have are left out.

    Args:
        annotations: The dataset.
        image: Number of the image in it.
        detections: In this image.
    """
    masks = None if detections.mask_probs is None else encode_masks(detections)
    results: list[CocoResult] = []
    columns = (detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist())
    for place, ((x1, y1, x2, y2), score, label) in enumerate(zip(*columns, strict=True)):
        category = annotations.category_ids[label]
        if category is None:
            continue
        result: CocoResult = {
            "image_id": int(annotations.image_ids[image]),
            "category_id": category,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        if masks is not None:
            result["segmentation"] = masks[place]
        results.append(result)
    return results


def score_results(
    annotations: CocoAnnotations, images: Sequence[int], results: Sequence[CocoResult], *, with_masks: bool
) -> DetectionScores:
    """Computes COCO's scores.

    Args:
        annotations: The dataset.
        images: Numbers of the images that were looked at.
        results: What was found in them.
        with_masks: Whether masks were looked for.

    Raises:
        ImportError: If faster-coco-eval is not installed.
    """
    score_masks = with_masks and bool(annotations.has_mask.any())
    return DetectionScores(
        box=_score(annotations, images, results, "bbox"),
        mask=_score(annotations, images, results, "segm") if score_masks else None,
        num_images=len(images),
    )


def coco_tools() -> Any:
    """The package that computes COCO's scores.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError as error:
        raise ImportError("COCO's scores need faster-coco-eval: pip install 'piip[train]'") from error
    return faster_coco_eval


def coco_ground_truth(
    annotations: CocoAnnotations, images: Sequence[int], iou_type: Literal["bbox", "segm"]
) -> dict[str, Any]:
    """The objects in some images, as COCO's files have them; for masks, those that have one.

    COCO's tools do not take all the ids that a file may have. So images have their place in the order of the ids, by
    which detections of equal scores are ranked, and categories have their labels.
    """
    places = _id_order(annotations)
    entries: list[dict[str, Any]] = []
    objects = [(image, int(number)) for image in images for number in annotations.objects(image)]
    for image, number in objects:
        entry = {
            "id": len(entries) + 1,  # COCO's tools take the id 0 for no object
            "image_id": places[image],
            "category_id": int(annotations.labels[number]),
            "bbox": annotations.boxes[number].tolist(),
            "area": float(annotations.areas[number]),
            "iscrowd": int(annotations.is_crowd[number]),
        }
        if iou_type == "segm":
            if not annotations.has_mask[number]:
                continue
            entry["segmentation"] = annotations.segmentation(number, annotations.sizes[image])
        entries.append(entry)
    return {
        "images": [
            {"id": places[image], "height": height, "width": width}
            for image in images
            for height, width in (annotations.sizes[image],)
        ],
        "categories": [
            {"id": label, "name": name}
            for label, name in enumerate(annotations.class_names)
            if annotations.category_ids[label] is not None
        ],
        "annotations": entries,
    }


def _id_order(annotations: CocoAnnotations) -> list[int]:
    """The place of each image in the order of their ids."""
    places: list[int] = annotations.image_ids.argsort().argsort().tolist()
    return places


def _score(
    annotations: CocoAnnotations,
    images: Sequence[int],
    results: Sequence[CocoResult],
    iou_type: Literal["bbox", "segm"],
) -> CocoScores:
    tools = coco_tools()
    truth = tools.COCO(coco_ground_truth(annotations, images, iou_type))
    # With a box beside it, the area of a mask would be that of the box, and so would be the scores by size.
    unused = {"bbox": "segmentation", "segm": "bbox"}[iou_type]
    images_by_id = dict(zip(annotations.image_ids.tolist(), _id_order(annotations), strict=True))
    labels = {number: label for label, number in enumerate(annotations.category_ids)}
    found = truth.loadRes(
        [
            {key: value for key, value in result.items() if key != unused}
            | {"image_id": images_by_id[result["image_id"]], "category_id": labels[result["category_id"]]}
            for result in results
        ]
    )
    evaluation = tools.COCOeval_faster(truth, found, iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    stats = [_percent(value) for value in evaluation.stats[:12]]
    precision: NDArray[np.float64] = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, category
    by_label = {
        label: _percent(values[values > -1].mean() if (values > -1).any() else -1.0)
        for label, values in zip(evaluation.params.catIds, np.moveaxis(precision, 2, 0), strict=True)
    }
    per_class = tuple(by_label.get(label) for label in range(len(annotations.class_names)))
    return CocoScores(**dict(zip(_NAMES, stats, strict=True)), per_class=per_class)


def _percent(value: float) -> float | None:
    """COCO's tools write -1 where there is nothing to find."""
    return None if value < 0 else 100 * float(value)
