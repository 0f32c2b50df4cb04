"""Where the weights of a branch come from, as people write it: `deit:weights/deit_base.pth`."""

from dataclasses import dataclass
from pathlib import Path

from piip.config import nearest
from piip.zoo.pretrained.checkpoint import Checkpoint, read_checkpoint, read_timm
from piip.zoo.pretrained.families import FAMILIES, Family

_TIMM = "timm/"
_NONE = "none"


@dataclass(frozen=True)
class Source:
    """Where the weights of a branch come from.

    Attributes:
        location: a file; or `timm/` and a name, as a string.
        family: whose format the file has; None for timm, where the name tells.
    """

    location: str | Path
    family: Family | None

    def read(self) -> Checkpoint:
        """Read the file, or download the weights.

        Raises:
            WeightsError: when they cannot be had.
            ValueError: for a family that is missing or not needed.
        """
        if isinstance(self.location, str) and self.location.startswith(_TIMM):
            if self.family is not None:
                raise ValueError(f"family: {self.location} tells it; leave {self.family!r} out, or give a file as Path")
            return read_timm(self.location.removeprefix(_TIMM))
        if self.family is None:
            raise ValueError(f"family: say whose checkpoint {self.location} is: {', '.join(FAMILIES)}")
        return read_checkpoint(self.location, self.family)


def parse_source(text: str) -> Source | None:
    """Read `FAMILY:PATH`, `timm/NAME`, or `none`.

    Returns:
        The source; None for `none`.

    Raises:
        ValueError: for anything else, with the forms that there are.
    """
    if text == _NONE:
        return None
    if text.startswith(_TIMM):
        return Source(text, None)
    name, colon, path = text.partition(":")
    family = next((family for family in FAMILIES if family == name), None)
    if family is None or not path:
        mistake = f"; there is no family {name!r}{nearest(name, list(FAMILIES))}" if colon and family is None else ""
        raise ValueError(
            f"pretrained: {text!r} is none of FAMILY:PATH (FAMILY is one of {', '.join(FAMILIES)}), {_TIMM}NAME, and "
            f"{_NONE!r} for random weights{mistake}"
        )
    return Source(Path(path), family)
