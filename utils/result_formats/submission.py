"""``results/STEM_pred.png``: class maps as the benchmark server of Cityscapes takes them, in the ids of its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.formats.cityscapes import NAMES, train_ids_to_label_ids
from data.formats.mask_png import write_mask
from models.predictions import MaskResult
from utils.errors import UsageError
from utils.result_formats.found_picture import FoundPicture, ResultFormat
from utils.result_formats.result_paths import ResultPaths, folder_name


class SubmissionFiles(ResultFormat):
    """Writes the class maps of the heads that tell the 19 Cityscapes classes apart.

    Args:
        paths: where files go.
        names: class names per head.
    """

    def __init__(self, paths: ResultPaths, names: Mapping[str, Sequence[str]]) -> None:
        self._paths = paths
        self._heads = {head for head, classes in names.items() if is_cityscapes(classes)}

    def save(self, picture: FoundPicture) -> None:
        """Write the class map of one picture."""
        maps = {
            head: result.class_map.numpy()
            for head, result in picture.results.items()
            if isinstance(result, MaskResult) and head in self._heads
        }
        for head, class_map in maps.items():
            path = self._paths.path(folder_name("results", head, maps), f"{picture.stem}_pred.png", picture)
            write_mask(path, train_ids_to_label_ids(class_map))


def require_cityscapes(names: Mapping[str, Sequence[str]]) -> None:
    """Make sure that one of the heads to run has the classes of the benchmark.

    Args:
        names: class names per head that labels pixels.

    Raises:
        UsageError: none has.
    """
    if not any(is_cityscapes(classes) for classes in names.values()):
        found = "; ".join(f"{head} has {len(classes)}: {', '.join(classes[:3])} ..." for head, classes in names.items())
        raise UsageError(
            f"--submit needs a segmentation head with the 19 training classes of Cityscapes ({', '.join(NAMES[:3])} "
            f"...), but {found or 'this run has none'}; leave it out or take another model"
        )


def is_cityscapes(names: Sequence[str]) -> bool:
    """Tell whether class names are those of the benchmark's 19 training ids, in their order."""
    return [name.lower() for name in names] == NAMES
