"""Scenes: where the objects are, and what can be seen of them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piip.config import check_fields
from piip.shapes.outlines import SHAPE_NAMES
from piip.shapes.painting import draw_background, draw_object

_MIN_PIXELS = 8


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """What is drawn.

    Attributes:
        num_classes: Number of classes, the first ones of `SHAPE_NAMES`.
        image_size: Side of the square images in pixels.
        min_objects: Fewest objects in a scene.
        max_objects: Most objects in a scene. Image classification needs scenes of one.
        min_size: Smallest diameter of an object, as a part of `image_size`.
        max_size: Largest diameter of an object, as a part of `image_size`.
        max_rotation: Largest angle by which objects are turned either way from upright, in degrees.
        light_on_dark: Whether objects are lighter than the clutter behind them. Then a small vision transformer learns
            to tell them apart within minutes; with any colours on any other, it takes far more images.
        seed: Another seed gives other scenes.
    """

    num_classes: int = 6
    image_size: int = 128
    min_objects: int = 1
    max_objects: int = 1
    min_size: float = 0.35
    max_size: float = 0.8
    max_rotation: float = 30.0
    light_on_dark: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.num_classes <= len(SHAPE_NAMES):
            raise ValueError(f"num_classes={self.num_classes} must be within 1...{len(SHAPE_NAMES)}")
        if not 0 <= self.min_objects <= self.max_objects:
            raise ValueError(f"min_objects={self.min_objects}, max_objects={self.max_objects} must be 0 <= min <= max")
        if not 0 < self.min_size <= self.max_size <= 1:
            raise ValueError(f"min_size={self.min_size}, max_size={self.max_size} must be 0 < min <= max <= 1")
        if self.min_size * self.image_size < _MIN_PIXELS:
            raise ValueError(
                f"min_size={self.min_size} of image_size={self.image_size} is under {_MIN_PIXELS} pixels, too small to "
                f"tell the shapes apart: raise one of them"
            )
        if not 0 <= self.max_rotation <= 180:
            raise ValueError(f"max_rotation={self.max_rotation} must be within 0...180 degrees")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return SHAPE_NAMES[: self.num_classes]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image and all that can be asked about it.

    Attributes:
        image: uint8 `(H, W, 3)`, RGB.
        boxes: float32 `(N, 4)`: x1, y1, x2, y2 in pixels, tight around the visible pixels (x2 and y2 exclusive).
        masks: bool `(N, H, W)`, the visible pixels of each object.
        labels: int64 `(N,)`.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]


def draw_scene(config: ShapesConfig, index: int) -> Scene:
    """Draws a scene, a pure function of its arguments.

    The first object has class `index % num_classes`, so that consecutive scenes are balanced; the others are random.
    Later objects may hide parts of earlier ones. An object hidden entirely is left out.

    Args:
        config: What is drawn.
        index: Number of the scene, from 0 on.
    """
    rng = np.random.default_rng((config.seed, index))
    size = config.image_size
    picture = draw_background(rng, (size, size), dark=config.light_on_dark)
    count = int(rng.integers(config.min_objects, config.max_objects, endpoint=True))
    labels = rng.integers(config.num_classes, size=count)
    labels[:1] = index % config.num_classes
    masks = np.zeros((count, size, size), dtype=bool)
    centres: list[tuple[float, float]] = []
    for number, label in enumerate(labels):
        radius = size * rng.uniform(config.min_size, config.max_size) / 2
        centres.append(_free_place(rng, centres, radius, size))
        angle = math.radians(rng.uniform(-config.max_rotation, config.max_rotation))
        mask = draw_object(rng, picture, SHAPE_NAMES[label], centres[-1], radius, angle, config.light_on_dark)
        masks[:number] &= ~mask
        masks[number] = mask
    visible = masks.any(axis=(1, 2))
    masks = masks[visible]
    boxes = np.array([_tight_box(mask) for mask in masks], dtype=np.float32).reshape(-1, 4)
    return Scene(image=_with_grain(rng, picture), boxes=boxes, masks=masks, labels=labels[visible].astype(np.int64))


def _free_place(
    rng: np.random.Generator, taken: list[tuple[float, float]], radius: float, size: int
) -> tuple[float, float]:
    """Picks a centre (x, y) that keeps an object inside the image, rather far from the others than near."""
    candidates = rng.uniform(radius, size - radius, size=(4 if taken else 1, 2))
    if taken:
        distance = np.linalg.norm(candidates[:, None] - np.array(taken), axis=2).min(axis=1)
        candidates = candidates[distance.argmax()][None]
    x, y = candidates[0]
    return float(x), float(y)


def _with_grain(rng: np.random.Generator, picture: Image.Image) -> NDArray[np.uint8]:
    """Adds noise as a camera does, the same in all colours."""
    grain = rng.standard_normal((picture.height, picture.width), dtype=np.float32) * np.float32(rng.uniform(1, 8))
    pixels = np.asarray(picture).astype(np.int16) + grain.astype(np.int16)[:, :, None]
    return pixels.clip(0, 255).astype(np.uint8)


def _tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
