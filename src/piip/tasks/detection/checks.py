"""What can be wrong in a dataset of the COCO format, and what is done about it."""

from piip.problems import DataProblem


class Problem(DataProblem):
    """Something that is wrong in one place of a dataset in the format of COCO; see `DataProblem`."""

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
