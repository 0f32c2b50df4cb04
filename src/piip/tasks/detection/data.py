"""From the images of a dataset to the batches that a detector reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from piip.batches import ImageBatch, PreparedImage, Size, collate_images, pad_to
from piip.images import ImageError, read_image
from piip.rle import sample_runs
from piip.tasks.detection.augmentation import DetectionTransform
from piip.tasks.detection.coco import CocoAnnotations
from piip.tasks.detection.structures import Target
from piip.tasks.detection.transforms import pixel_grid, sampled_pixels


class TrainingSample(NamedTuple):
    """An image and the objects in it; `target.masks` are as large as the image."""

    image: PreparedImage
    target: Target


class EvaluationSet(Dataset[PreparedImage]):
    """Images to evaluate a detector on, in the order of the file.

    Args:
        annotations: The dataset.
        transform: Applied to each image when it is read.
        limit: Take the first ones only, so many.

    Raises:
        ValueError: If `limit` leaves none.
    """

    def __init__(self, annotations: CocoAnnotations, transform: DetectionTransform, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit} must be at least 1")
        self.annotations = annotations
        self.transform = transform
        self.images = range(min(len(annotations), limit or len(annotations)))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PreparedImage:
        """Reads an image.

        Raises:
            ImageError: If it cannot be decoded, or has another size than the annotations say.
        """
        return prepare(read_annotated_image(self.annotations, self.images[index]), self.transform)


class TrainingSet(Dataset[TrainingSample]):
    """Images to train a detector on.

    Images without any annotation and very small ones are left out, as in the official release: of COCO's 118,287
    training images 117,266 remain. Some of them hold crowds only, which are not trained on.

    Args:
        annotations: The dataset.
        transform: Applied to each image and its objects when they are read.
        with_masks: Whether the targets have masks.
        keep_empty: Whether to train on images without annotations as well.
        min_side: Least height and width of an image, in pixels.

    Attributes:
        images: Numbers of the images that remain, in `annotations`.
        num_empty: How many are left out because they have no annotation.
        num_small: How many are left out because they are small.

    Raises:
        ValueError: If masks are wanted and there is none, or no image remains.
    """

    def __init__(
        self,
        annotations: CocoAnnotations,
        transform: DetectionTransform,
        *,
        with_masks: bool = True,
        keep_empty: bool = False,
        min_side: int = 32,
    ) -> None:
        if with_masks and not annotations.has_mask.any():
            found = "; ".join(annotations.problems.lines()) or "nothing else is wrong with it"
            raise ValueError(
                f"{annotations.file}: no annotation has a mask (segmentation), and the model learns masks: {found}"
            )
        self.annotations = annotations
        self.transform = transform
        self.with_masks = with_masks
        self.min_side = min_side
        is_small = np.array(annotations.sizes).min(axis=1) < min_side
        is_empty = ~is_small & (np.diff(annotations.starts) == 0) & (not keep_empty)
        self.num_small, self.num_empty = int(is_small.sum()), int(is_empty.sum())
        self.images = np.flatnonzero(~is_small & ~is_empty)
        if not len(self.images):
            raise ValueError(
                f"{annotations.file}: none of its {len(annotations)} images has an annotation and sides of at least "
                f"{min_side} pixels, so there is nothing to train on"
            )

    def __len__(self) -> int:
        return len(self.images)

    def summary(self) -> list[str]:
        """What is left out, a line; none where all images remain."""
        reasons = [
            (self.num_empty, "without annotations (--keep-empty trains on them too)"),
            (self.num_small, f"with a side of less than {self.min_side} pixels"),
        ]
        found = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
        number = f"{self.num_empty + self.num_small} of {len(self.annotations)} images"
        return [f"{number} are not trained on: {found}"] if found else []

    @property
    def aspect_groups(self) -> list[int]:
        """For each sample 1 if the image is wider than high, else 0: batches of one group need less padding."""
        sizes = self.annotations.sizes
        return [int(sizes[image][1] > sizes[image][0]) for image in self.images]

    def __getitem__(self, index: int) -> TrainingSample:
        """Reads an image and its objects, and changes them with the process-wide random generators.

        Raises:
            ImageError: If it cannot be decoded, or has another size than the annotations say.
        """
        number = int(self.images[index])
        image, size = read_annotated_image(self.annotations, number), self.annotations.sizes[number]
        grid = pixel_grid(size) if self.with_masks else None
        pixels, objects, grid = self.transform(_to_tensor(image), self._objects(number), grid)
        target = Target(objects["boxes"].as_subclass(Tensor), objects["labels"])
        if grid is not None:
            target = self._with_masks(target, objects["numbers"].numpy(), size, grid)
        return TrainingSample(PreparedImage(pixels.as_subclass(Tensor), size), target)

    def _objects(self, image: int) -> dict[str, Tensor]:
        """Boxes, labels and numbers of what is trained on in an image."""
        annotations, size = self.annotations, self.annotations.sizes[image]
        numbers = annotations.objects(image)
        numbers = numbers[annotations.is_trained_on[numbers]]
        corners = annotations.boxes[numbers]
        corners[:, 2:] += corners[:, :2]
        corners = corners.clip(0, [size[1], size[0], size[1], size[0]])
        return {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(corners).float(), format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size
            ),
            "labels": torch.from_numpy(annotations.labels[numbers]),
            "numbers": torch.from_numpy(numbers),
        }

    def _with_masks(self, target: Target, numbers: NDArray[np.int64], size: Size, grid: Tensor) -> Target:
        """Draws the pixels of the objects that are in the image as it is after its changes."""
        rows, columns = sampled_pixels(grid)
        has_mask = self.annotations.has_mask[numbers]
        masks = np.zeros((len(numbers), len(rows), len(columns)), dtype=bool)
        for place in np.flatnonzero(has_mask):
            masks[place] = sample_runs(self.annotations.runs(int(numbers[place]), size), size, rows, columns)
        return target._replace(
            masks=torch.from_numpy(masks), has_mask=None if has_mask.all() else torch.from_numpy(has_mask)
        )


def read_annotated_image(annotations: CocoAnnotations, number: int) -> Image.Image:
    """Reads an image the way round that its annotations refer to.

    Some tools annotate a photo as people see it, turned by its EXIF data, and some as it is stored. The height and
    width in the annotations tell, unless both ways have the same size; then it is taken as people see it.

    Raises:
        ImageError: If it cannot be decoded, or has another size than the annotations say.
    """
    path, size = annotations.image_folder / annotations.file_names[number], annotations.sizes[number]
    image = read_image(path)
    if (image.height, image.width) == size[::-1] != size:
        image = read_image(path, upright=False)
    if (image.height, image.width) != size:
        raise ImageError(
            f"image '{path}' has {image.height} x {image.width} pixels, but {annotations.file} says {size[0]} x "
            f"{size[1]}: correct the file, or take the image out of it"
        )
    return image


def prepare(image: Image.Image, transform: DetectionTransform) -> PreparedImage:
    """Applies a transform to an image without objects."""
    return PreparedImage(transform(_to_tensor(image)).as_subclass(Tensor), (image.height, image.width))


def collate_samples(samples: Sequence[TrainingSample], size_divisor: int) -> tuple[ImageBatch, tuple[Target, ...]]:
    """Pads images and masks as `collate_images` does."""
    batch = collate_images([sample.image for sample in samples], size_divisor)
    height, width = batch.pixels.shape[-2:]
    targets = (sample.target for sample in samples)
    return batch, tuple(
        target if target.masks is None else target._replace(masks=pad_to(target.masks, (height, width)))
        for target in targets
    )


def _to_tensor(image: Image.Image) -> tv_tensors.Image:
    return tv_tensors.Image(pil_to_tensor(image))
