"""What can be wrong in a dataset of images and masks, and what is done about it."""

from piip.problems import DataProblem


class Problem(DataProblem):
    """Something that is wrong in one place of a dataset of images and masks; see `DataProblem`."""

    MISSING_MASK = ("images without a mask", "left out")
    MISSING_IMAGE = ("masks without an image", "left out")
    UNREADABLE = ("images or masks whose file cannot be opened", "left out")
