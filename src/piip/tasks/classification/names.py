"""What the classes of ImageNet are called."""

from functools import cache

from timm.data import ImageNetInfo


@cache
def _imagenet() -> ImageNetInfo:
    return ImageNetInfo()


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The WordNet ids of the 1000 classes of ImageNet-1K, in the order of their labels: the names of its folders."""
    return tuple(_imagenet().index_to_label_name(label) for label in range(1000))


@cache
def readable_name(class_name: str) -> str:
    """What people call a class: the description of a WordNet id (`n02123045`: tabby cat); any other name as it is."""
    return _imagenet().label_name_to_description(class_name) if class_name in imagenet_synsets() else class_name
