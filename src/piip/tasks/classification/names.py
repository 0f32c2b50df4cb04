"""What the classes of ImageNet are called."""

from collections import Counter
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
    """What people call a class: the description of a WordNet id (`n02123045`: tabby cat); any other name as it is.

    Where two classes of ImageNet have one description, the id stands behind it: there are two cranes.
    """
    description = _descriptions().get(class_name, class_name)
    return f"{description} ({class_name})" if description in _shared_descriptions() else description


@cache
def _descriptions() -> dict[str, str]:
    return {synset: _imagenet().label_name_to_description(synset) for synset in imagenet_synsets()}


@cache
def _shared_descriptions() -> frozenset[str]:
    counts = Counter(_descriptions().values())
    return frozenset(description for description, count in counts.items() if count > 1)
