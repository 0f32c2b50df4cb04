"""What can be wrong in a dataset of the COCO format, and what is done about it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from piip.config import listing

_EXAMPLES = 3  # places that are named of each problem


class DatasetError(ValueError):
    """A dataset that cannot be used; the message names the file, what is wrong in it, and what to do."""


class Problem(Enum):
    """Something that is wrong in one place of a dataset which can be used all the same.

    The value of each tells what was found, and what becomes of it.
    """

    UNREADABLE_IMAGE = ("images without a whole-number id, a file_name, or a positive height and width", "left out")
    MISSING_FILE = ("images whose file is missing", "left out")
    WRONG_SIZE = ("images whose file cannot be opened or has another size than is said", "left out")
    UNNAMED_CATEGORY = ("categories without a name", "named after their id")
    UNREADABLE_ANNOTATION = ("annotations without image_id, category_id or a bbox of four numbers", "left out")
    UNKNOWN_IMAGE = ("annotations of an unknown image", "left out")
    UNKNOWN_CATEGORY = ("annotations of an unknown category", "left out")
    EMPTY_BOX = ("annotations whose box or area is empty", "not trained on")
    BOX_OUTSIDE = ("annotations whose box is outside its image", "not trained on")
    BOX_REACHES_OUT = ("annotations whose box reaches out of its image by more than a pixel", "cut at the edge")
    BAD_MASK = (
        "annotations without a mask, or with a damaged one",
        "scored by their boxes, not trained on with masks",
    )

    @property
    def what(self) -> str:
        """What was found."""
        return self.value[0]

    @property
    def rule(self) -> str:
        """What becomes of it."""
        return self.value[1]


class Problems:
    """The problems of a dataset: how often each was found, and where first."""

    def __init__(self) -> None:
        self.counts: Counter[Problem] = Counter()
        self._places: defaultdict[Problem, list[str]] = defaultdict(list)

    def add(self, problem: Problem, place: str) -> None:
        """Counts a problem.

        Args:
            problem: Which.
            place: Where, for people to find it.
        """
        self.counts[problem] += 1
        if len(self._places[problem]) < _EXAMPLES:
            self._places[problem].append(place)

    def lines(self) -> list[str]:
        """One line for each kind of problem: how often, what, the first places, what was done; none if all is well."""
        return [
            f"{self.counts[problem]} {problem.what} ({self._listing(problem)}): {problem.rule}"
            for problem in Problem
            if self.counts[problem]
        ]

    def _listing(self, problem: Problem) -> str:
        places = self._places[problem]
        more = self.counts[problem] - len(places)
        return ", ".join(places) + (f" and {more} more" if more else "")


def refuse_duplicates(file: Path, what: str, field: str, values: Sequence[int | str]) -> None:
    """Raises `DatasetError` if a value of `field` stands in several entries of the list `what`."""
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise DatasetError(f"{file}: {what}: several with the same {field}: {listing(twice)}; make them different")
