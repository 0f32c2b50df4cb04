"""What both heads of UperNet are made of."""

from collections import OrderedDict

from torch import Tensor, nn

from piip.pyramid.merging import resize_map
from piip.tasks.segmentation.upernet.batch_norm import SyncedBatchNorm2d


def conv_block(in_channels: int, channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the size of the map, batch norm and ReLU."""
    conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    parts = OrderedDict[str, nn.Module](conv=conv, norm=SyncedBatchNorm2d(channels), act=nn.ReLU(inplace=True))
    return nn.Sequential(parts)


def make_classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """A logit of each class for each cell."""
    classifier = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(classifier.weight, std=0.01)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)
    return classifier


def resize_like(x: Tensor, other: Tensor) -> Tensor:
    """Resize a map (B, C, h, w) bilinearly to the height and width of another."""
    return resize_map(x, other.shape[-2], other.shape[-1])
