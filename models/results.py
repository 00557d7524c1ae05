"""What a model found in the pictures of one call: ``Results``, a sequence of one ``ImageResult`` per picture.

Shape suffixes: k objects, H rows, W columns of the native picture. All tensors are on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from data.images import IMAGE_SUFFIXES
from models.image_result import PLAIN_STYLE, ImageResult, confidence_columns
from models.predictions import PoseResult
from utils.annotate import Style
from utils.boxes import xyxy_to_xywh
from utils.crops import Crop, cut_crops, save_crops
from utils.errors import RunError, UsageError
from utils.files import increment_run_folder
from utils.plots.drawing import save_picture
from utils.plots.window import show_pictures
from utils.result_files import ResultFiles, Wanted
from utils.result_formats.found_picture import FoundPicture
from utils.result_tables import CENTRES, CORNERS, PandasTables, keypoint_frame, to_detections, to_frame, to_plain

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

RUNS = Path("runs") / "hub"
_SUFFIX = ".jpg"


class Results(Sequence[ImageResult]):
    """What a model found in the pictures of one call, in their order.

    ``results[0]`` is one picture's, ``results[:2]`` the ``Results`` of two. Lists such as ``xyxy`` and tables need one
    head for boxes; with several, ``results.only("cars").xyxy`` names it.
    """

    def __init__(self, pictures: Sequence[ImageResult]) -> None:
        self._pictures = tuple(pictures)

    @overload
    def __getitem__(self, index: int) -> ImageResult: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> ImageResult | Results:
        return Results(self._pictures[index]) if isinstance(index, slice) else self._pictures[index]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def __str__(self) -> str:
        lines = [f"image {number}/{len(self)} {result}" for number, result in enumerate(self, 1)]
        stages = ", ".join(f"{stage} {spent:.1f} ms" for stage, spent in self.speed.items())
        return "\n".join([*lines, f"mean of {len(self)} picture{'' if len(self) == 1 else 's'}: {stages}"])

    __repr__ = __str__

    def print(self) -> None:
        """Print what was found, a line for every picture as ``detect.py`` has it, and the mean time of the stages."""
        print(self)

    @property
    def speed(self) -> dict[str, float]:
        """Mean milliseconds of a picture by stage."""
        stages = dict.fromkeys(stage for result in self for stage in result.speed)
        return {stage: sum(result.speed[stage] for result in self) / len(self) for stage in stages}

    @property
    def names(self) -> Sequence[str]:
        """Class names, see ``ImageResult.names``; empty without a picture."""
        return self[0].names if self else []

    @property
    def xyxy(self) -> list[Tensor]:
        """Per picture (k, 6) x1 y1 x2 y2 in pixels, confidence, class."""
        return self._tables(lambda boxes, size: boxes)

    @property
    def xywh(self) -> list[Tensor]:
        """Per picture (k, 6) centre x, centre y, width, height in pixels, confidence, class."""
        return self._tables(lambda boxes, size: xyxy_to_xywh(boxes))

    @property
    def xyxyn(self) -> list[Tensor]:
        """Per picture (k, 6) x1 y1 x2 y2 as shares of width and height, confidence, class."""
        return self._tables(lambda boxes, size: boxes / size)

    @property
    def xywhn(self) -> list[Tensor]:
        """Per picture (k, 6) centre x, centre y, width, height as shares of the picture's, confidence, class."""
        return self._tables(lambda boxes, size: xyxy_to_xywh(boxes) / size)

    @property
    def pred(self) -> list[Tensor]:
        """The same as ``xyxy``, by the name under which other libraries look for results of YOLOv5."""
        return self.xyxy

    @property
    def keypoints(self) -> list[Tensor | None]:
        """Per picture (k, K, 3) x, y in pixels and score, or None if the model has no head for poses."""
        return [result.keypoints for result in self]

    @property
    def masks(self) -> list[Tensor | None]:
        """Per picture the (H, W) uint8 class of every pixel, or None if the model has no head for areas."""
        return [result.masks for result in self]

    def only(self, *heads: str) -> Results:
        """Return the results of some heads alone.

        Raises:
            UsageError: there is no such head.
        """
        return Results([result.only(*heads) for result in self])

    def render(self, style: Style = PLAIN_STYLE) -> list[np.ndarray]:
        """Return copies of the pictures, (H, W, 3) uint8 RGB, with everything found drawn on them."""
        return [result.render(style) for result in self]

    def show(self, style: Style = PLAIN_STYLE) -> None:
        """Show the annotated pictures in windows, or in the notebook, and wait until they are closed.

        Raises:
            RunError: there is no display.
        """
        show_pictures(self.render(style), [result.name for result in self])

    def save(
        self,
        folder: str | Path | None = None,
        labels: bool = False,
        confidences: bool = False,
        masks: bool = False,
        style: Style = PLAIN_STYLE,
    ) -> Path:
        """Write the annotated pictures under their names; equal names get numbers.

        Args:
            folder: where to write, made if absent, files of equal name replaced; None makes the next of
                ``runs/hub/exp``, ``exp2`` ...
            labels: write objects to ``labels/STEM.txt``, ``class x y w h`` per line and for poses ``x y v`` of every
                keypoint, relative to the picture.
            confidences: add the confidence to those lines.
            masks: write class maps to ``masks/STEM.png``, and in colours to ``masks/STEM_colour.png``.
            style: of the drawing.

        Returns:
            The folder.

        Raises:
            UsageError: the folder holds the pictures themselves, or ``confidences`` has no labels to go with.
            RunError: a file cannot be written.
        """
        if confidences and not labels:
            raise UsageError("save(confidences=True) adds a column to the label files; give labels=True too")
        with _writing():
            folder = self._folder(folder)
            wanted = Wanted(True, labels, confidences, masks, style.keypoint_score)
            files = ResultFiles(folder, self[0].class_names if self else {}, wanted)
            for result in self:
                known = Path(result.name).suffix.lower() in IMAGE_SUFFIXES
                target = files.name_for(Path(result.name if known else f"{Path(result.name).stem}{_SUFFIX}"))
                save_picture(target, result.render(style))
                files.save(FoundPicture.of_still(target, Path(result.name), result.image, result.heads))
        return folder

    def crop(self, save: bool = True, folder: str | Path | None = None, pad: int = 0) -> list[Crop]:
        """Cut every object out of its picture.

        Args:
            save: also write the crops to ``crops/CLASS/PICTURE.jpg``, ``PICTURE_2.jpg`` ... below the folder.
            folder: as for ``save``.
            pad: pixels to add on every side, as far as the picture reaches.

        Returns:
            The crops of all pictures in their order.

        Raises:
            UsageError: there is not exactly one head for boxes, or ``pad`` is below 0.
            RunError: a file cannot be written.
        """
        if not isinstance(pad, Integral) or pad < 0:
            raise UsageError(f"crop(pad={pad}): the padding must be a whole number of pixels, 0 or more")
        crops = [
            crop for result in self for crop in cut_crops(result.image, result.name, *result.objects("crop()"), pad)
        ]
        if save:
            with _writing():
                save_crops(self._folder(folder) / "crops", crops)
        return crops

    def to_pandas(self) -> list[DataFrame]:
        """Return a data frame per picture: xmin, ymin, xmax, ymax in pixels, confidence, class, name.

        Raises:
            UsageError: pandas is not installed, or there is not exactly one head for boxes.
        """
        return self._frames(self.xyxy)

    def pandas(self) -> PandasTables:
        """Return the data frames as YOLOv5 spells them: ``results.pandas().xyxy[0]``, also xywh, xyxyn, xywhn.

        Of a model with a head for poses, ``keypoints`` has theirs: a row for every keypoint of every object.

        Raises:
            UsageError: as from ``to_pandas``.
        """
        return PandasTables(
            xyxy=self._frames(self.xyxy),
            xywh=self._frames(self.xywh, CENTRES),
            xyxyn=self._frames(self.xyxyn),
            xywhn=self._frames(self.xywhn, CENTRES),
            keypoints=[
                keypoint_frame(found, names)
                for found, names in (result.objects("pandas()") for result in self)
                if isinstance(found, PoseResult)
            ],
        )

    def to_supervision(self) -> list[Detections]:
        """Return ``supervision.Detections`` per picture; class names are in ``data["class_name"]``.

        Raises:
            UsageError: supervision is not installed, or there is not exactly one head for boxes.
        """
        return [to_detections(*result.objects("to_supervision()")) for result in self]

    def to_list(self) -> list[dict[str, Any]]:
        """Return everything but the pixels as plain values, a dict per picture.

        Each has ``name``, ``path``, ``width``, ``height``, and ``objects`` (head, class, name, confidence, box in
        pixels, keypoints where there are any) and ``areas`` (head, class, name, share of the picture) of all heads.
        """
        return [
            {
                "name": result.name,
                "path": None if result.path is None else str(result.path),
                "width": result.image.shape[1],
                "height": result.image.shape[0],
                **to_plain(result.heads, result.class_names),
            }
            for result in self
        ]

    def to_json(self, indent: int | None = None) -> str:
        """Return ``to_list`` as JSON text."""
        return json.dumps(self.to_list(), indent=indent, ensure_ascii=False)

    def _tables(self, change: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        """Return the (k, 6) objects of every picture, their boxes changed by a function of corners and (4,) size."""
        tables = []
        for result in self:
            objects, _ = result.objects("a table of boxes")
            height, width = result.image.shape[:2]
            size = objects.boxes.new_tensor((width, height, width, height))
            tables.append(torch.cat((change(objects.boxes, size), confidence_columns(objects)), 1))
        return tables

    def _frames(self, tables: Sequence[Tensor], columns: Sequence[str] = CORNERS) -> list[DataFrame]:
        return [to_frame(table, result.names, columns) for table, result in zip(tables, self, strict=True)]

    def _folder(self, folder: str | Path | None) -> Path:
        """Return the folder to write to, made if it is absent.

        Raises:
            UsageError: it holds the pictures themselves, or is a file.
        """
        if folder is None:
            try:
                return increment_run_folder(RUNS, "exp")
            except UsageError:
                raise UsageError(f"{RUNS} is not a folder and cannot be made one; name another folder") from None
        folder = Path(folder)
        if folder.resolve() in {result.path.parent.resolve() for result in self if result.path is not None}:
            raise UsageError(f"{folder} holds the pictures, which the results would replace; choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{folder} is not a folder and cannot be made one; choose another") from None
        return folder


@contextmanager
def _writing() -> Iterator[None]:
    """Turn what the system says against writing a file into one sentence.

    Raises:
        RunError: a file cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise RunError(f"cannot write{where}: {error.strerror}; free some space or choose another folder") from None
