"""What became of every tensor when a checkpoint was loaded."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from piip.zoo.pretrained.families import Family


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of every tensor of a branch, of its own head, and of the checkpoint.

    Tensors of the model have their names in its state dict; those of the checkpoint their names in our ViT, with
    `norm` and `head` after the last block. `str(report)` is for people.

    Attributes:
        source: the file or name of the checkpoint.
        family: whose format it had.
        branch: which branch, counted from 1.
        loaded: tensors of the model that hold what the checkpoint holds.
        adapted: tensors of the model that were resampled or cut, and how.
        kept: tensors of the model that keep their initial value, and why.
        ignored: tensors of the checkpoint that went nowhere, and why.
    """

    source: str
    family: Family
    branch: int
    loaded: tuple[str, ...]
    adapted: Mapping[str, str]
    kept: Mapping[str, str]
    ignored: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"branch {self.branch} from {self.source} ({self.family}): {len(self.loaded)} tensors as they are"]
        for what, tensors in (("adapted", self.adapted), ("kept", self.kept), ("ignored", self.ignored)):
            for reason in dict.fromkeys(tensors.values()):
                names = summarise(name for name in tensors if tensors[name] == reason)
                lines.append(f"  {what}: {', '.join(names)}: {reason}")
        return "\n".join(lines)


def summarise(names: Iterable[str]) -> list[str]:
    """The names, with those that differ only in the number of their block as one."""
    counts = Counter(re.sub(r"\bblocks\.\d+\.", "blocks.*.", name) for name in names)
    return [f"{name} ({count} times)" if count > 1 else name for name, count in counts.items()]
