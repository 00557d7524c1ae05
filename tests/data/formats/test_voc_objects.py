"""Objects in VOC annotations: a round trip, corners that count from one, what the picture is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations import AnnotatedPicture, make_objects
from data.formats.voc_objects import VocObjects
from data.formats.voc_xml import read_annotation
from tests.annotated_objects import check_equal, class_list, pictures
from utils.errors import DataError

FORMAT = VocObjects()


@settings(max_examples=25)
@given(pictures(FORMAT.keeps, beyond=20), st.booleans())
def test_written_objects_come_back(
    tmp_path_factory: pytest.TempPathFactory, picture: AnnotatedPicture, one_based: bool
) -> None:
    form = VocObjects(one_based)
    file = tmp_path_factory.mktemp("voc") / "a.xml"
    form.write(file, picture, class_list())
    check_equal(form.read(file, picture.size, class_list()), picture.objects, tolerance=1e-9)
    annotation = read_annotation(file)
    assert (annotation.filename, annotation.size) == ("a.jpg", picture.size)


def test_corners_that_count_from_one_are_pixels(tmp_path: Path) -> None:
    picture = AnnotatedPicture(Path("a.jpg"), "a.jpg", (48, 64), make_objects(["dog"], np.array([[0, 0, 64, 48]])))
    VocObjects(one_based=True).write(tmp_path / "a.xml", picture, class_list())
    assert read_annotation(tmp_path / "a.xml").boxes.tolist() == [[1, 1, 64, 48]]
    assert FORMAT.read(tmp_path / "a.xml", (48, 64), class_list()).boxes.tolist() == [[1, 1, 64, 48]]


def test_faults_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    with pytest.raises(DataError, match=r"a\.xml: object 1 \('dog'\) has no <bndbox>"):
        FORMAT.read(tmp_path / "a.xml", (48, 64), class_list())


def test_labels_lie_as_pictures_do() -> None:
    found = FORMAT.label_file(Path("set/JPEGImages/city/a.b.jpg"), Path("set/JPEGImages"), Path("set/Annotations"))
    assert found == Path("set/Annotations/city/a.b.xml")
