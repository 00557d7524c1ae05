"""Objects from and to Pascal VOC annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.voc_xml import Annotation, read_annotation, write_annotation


class VocObjects:
    """One XML file per picture, with the names of classes and boxes in pixels.

    Args:
        one_based: the corners of boxes are indices of pixels counted from 1, as in the original VOC sets, see
            ``data.formats.voc_xml.fit_boxes``.
    """

    name = "voc"
    names_inside = True
    names = ()
    keeps = frozenset({"difficult"})

    def __init__(self, one_based: bool = False):
        self.offset = np.array([1.0, 1.0, 0.0, 0.0]) if one_based else np.zeros(4)

    def label_file(self, image: Path, images: Path, labels: Path) -> Path:
        """Return where the labels of ``image`` lie, a file below ``images``, with labels below ``labels``."""
        return (labels / image.relative_to(images)).with_suffix(".xml")

    def read(self, path: Path, size: tuple[int, int], classes: ClassList) -> Objects:
        """Read the objects of an annotation; boxes are those of the file and may reach over the edge of the picture.

        Args:
            path: of the file.
            size: height and width of the picture, which count where the file says something else.
            classes: not used; the file has names.

        Raises:
            DataError: the file is malformed; the message names the file and the object.
        """
        annotation = read_annotation(path)
        boxes = annotation.boxes - self.offset
        return make_objects(annotation.names, boxes, difficult=annotation.difficult, size=annotation.size)

    def write(self, path: Path, picture: AnnotatedPicture, classes: ClassList) -> None:
        """Write an annotation; its folder must exist. White space within a class name becomes single spaces.

        Raises:
            DataError: a name is empty or holds a character that XML does not have.
        """
        objects = picture.objects
        boxes, name = objects.boxes + self.offset, Path(picture.relative).name
        write_annotation(path, Annotation(objects.names, boxes, objects.difficult, picture.size, name))
