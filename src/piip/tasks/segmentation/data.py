"""From the images and masks of a dataset to the batches that a segmentor reads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from piip.batches import ImageBatch, PreparedImage, collate_images
from piip.distributed import rank, sum_of_processes, world_size
from piip.held_out import warn_left_out
from piip.images import ImageError
from piip.problems import DatasetError
from piip.progress import show_progress
from piip.sampling import ShardedSampler
from piip.tasks.segmentation.augmentation import SegmentationTransform
from piip.tasks.segmentation.files import SegmentationFiles
from piip.tasks.segmentation.structures import IGNORED

_MAX_RATIO = 32


class TrainingSample(NamedTuple):
    """A square of an image, and the labels of its pixels, uint8 `(H, W)`."""

    pixels: Tensor
    labels: Tensor


class EvaluationSample(NamedTuple):
    """An image, and the labels of its pixels before it was resized, uint8 `(H, W)`."""

    image: PreparedImage
    labels: Tensor


class EvaluationSet(Dataset[EvaluationSample]):
    """Images to evaluate a segmentor on, in the order of their names.

    Args:
        files: The images and masks.
        transform: Applied to each image when it is read.
        limit: Take so many only, evenly spaced.

    Raises:
        ValueError: If `limit` leaves none.
    """

    def __init__(self, files: SegmentationFiles, transform: SegmentationTransform, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit} must be at least 1")
        self.files = files
        self.transform = transform
        kept = min(len(files), limit or len(files))
        self.images = [(2 * place + 1) * len(files) // (2 * kept) for place in range(kept)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> EvaluationSample:
        """Reads an image and the labels of its pixels.

        Raises:
            ImageError: If one of the files cannot be decoded, or the image is too long.
            MaskError: If the mask holds an undeclared value.
        """
        number = self.images[index]
        image, labels = self.files.read(number)
        name = f"image '{self.files.pairs[number][0]}'"
        return EvaluationSample(prepare(image, self.transform, name), torch.from_numpy(labels))

    def check(self) -> None:
        """Reads the images and masks that this process evaluates, and keeps nothing of them.

        Those that cannot be read are named in a warning.

        Raises:
            MaskError: If a mask holds an undeclared value.
            DatasetError: If no mask, on any of the processes, has a labelled pixel: then there is nothing to score.
        """

        def is_labelled(index: int) -> bool:
            number = self.images[index]
            try:
                image, labels = self.files.read(number)
                check_ratio(image, f"image '{self.files.pairs[number][0]}'")
            except ImageError as error:
                warn_left_out(error)
                return False
            return bool((labels != IGNORED).any())

        own = ShardedSampler(len(self), rank=rank(), world_size=world_size())
        with ThreadPoolExecutor() as pool:
            found = pool.map(is_labelled, own)
            what = f"reading {self.files.folder}"
            labelled = sum(show_progress(found, len(own), what, visible=rank() == 0))
        if not sum_of_processes(labelled):
            raise DatasetError(
                f"'{self.files.folder}': of its {len(self)} images, none can be read and has a mask with a pixel that "
                f"is not ignored, so there is nothing to evaluate on"
            )


class TrainingSet(Dataset[TrainingSample]):
    """Images to train a segmentor on.

    Args:
        files: The images and masks.
        transform: Applied to each image and its labels when they are read.
    """

    def __init__(self, files: SegmentationFiles, transform: SegmentationTransform) -> None:
        self.files = files
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> TrainingSample:
        """Reads an image and its labels, and changes them with the process-wide random generators.

        Raises:
            ImageError: If one of the files cannot be decoded.
            MaskError: If the mask holds an undeclared value.
        """
        image, labels = self.files.read(index)
        pixels, changed = self.transform(_to_tensor(image), tv_tensors.Mask(torch.from_numpy(labels)[None]))
        return TrainingSample(pixels.as_subclass(Tensor), changed.as_subclass(Tensor)[0])


def prepare(image: Image.Image, transform: SegmentationTransform, name: str) -> PreparedImage:
    """Applies a transform to an image without labels.

    Raises:
        ImageError: If the image is too long; see `check_ratio`.
    """
    check_ratio(image, name)
    return PreparedImage(transform(_to_tensor(image)).as_subclass(Tensor), (image.height, image.width))


def check_ratio(image: Image.Image, name: str) -> None:
    """Refuses an image that is so long that the logits of all its pixels would take too much memory.

    Images are made as large as their shorter side shall be. One of 20 x 3000 pixels would become 512 x 76800, and its
    logits of 150 classes 24 GB.

    Args:
        image: Before it is resized.
        name: What a message calls it.

    Raises:
        ImageError: If it is.
    """
    if max(image.size) > _MAX_RATIO * min(image.size):
        raise ImageError(
            f"{name} has {image.height} x {image.width} pixels, and one side may be at most {_MAX_RATIO} times as long "
            f"as the other: cut it into pieces"
        )


def collate_evaluation(samples: Sequence[EvaluationSample]) -> tuple[ImageBatch, list[Tensor]]:
    """Pads images as `collate_images` does; labels stay as they are."""
    return collate_images([sample.image for sample in samples]), [sample.labels for sample in samples]


def collate_training(samples: Sequence[TrainingSample]) -> tuple[ImageBatch, Tensor]:
    """Stacks squares and their labels, which become int64."""
    pixels = torch.stack([sample.pixels for sample in samples])
    return ImageBatch.of(pixels), torch.stack([sample.labels for sample in samples]).long()


def _to_tensor(image: Image.Image) -> tv_tensors.Image:
    return tv_tensors.Image(pil_to_tensor(image))
