"""What is wrong with a dataset: what it is refused for, and what is left out, counted and named."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from piip.config import listing
from piip.workers import LoaderError

_EXAMPLES = 3  # places that are named of each problem


class DatasetError(LoaderError):
    """A dataset that cannot be used; the message names the file, what is wrong in it, and what to do."""


class DataProblem(Enum):
    """Something that is wrong in one place of a dataset which can be used all the same.

    The value of each tells what was found, and what becomes of it.
    """

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
        self.counts: Counter[DataProblem] = Counter()
        self._places: defaultdict[DataProblem, list[str]] = defaultdict(list)

    def add(self, problem: DataProblem, place: str) -> None:
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
            f"{count} {problem.what} ({self._listing(problem)}): {problem.rule}"
            for problem, count in self.counts.items()
        ]

    def _listing(self, problem: DataProblem) -> str:
        places = self._places[problem]
        more = self.counts[problem] - len(places)
        return ", ".join(places) + (f" and {more} more" if more else "")


def refuse_duplicates(file: Path, what: str, field: str, values: Sequence[int | str]) -> None:
    """Raises `DatasetError` if a value of `field` stands in several entries of the list `what`."""
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise DatasetError(f"{file}: {what}: several with the same {field}: {listing(twice)}; make them different")
