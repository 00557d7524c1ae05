"""VOC annotations: round trips, one sentence for every fault, bombs refused while small, corners against the edges."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.formats.voc_xml import MOST_BYTES, Annotation, fit_boxes, parse_annotation, read_annotation, write_annotation
from utils.errors import DataError

REPO = Path(__file__).resolve().parents[3]
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))


def document(*objects: str, before: str = "") -> bytes:
    inner = "".join(f"<object>{entry}</object>" for entry in objects)
    return f"<annotation>{before}{inner}</annotation>".encode()


@given(st.data(), st.lists(NAMES.map(lambda name: " ".join(name.split())).filter(bool), max_size=8))
def test_written_annotations_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, names: list[str]
) -> None:
    n = len(names)
    given_one = Annotation(
        names=names,
        boxes=data.draw(arrays(np.float64, (n, 4), elements=st.floats(-1e9, 1e9) | st.integers(-5, 5000).map(float))),
        difficult=data.draw(arrays(bool, n)),
        size=data.draw(st.none() | st.tuples(st.integers(1, 10**6), st.integers(1, 10**6))),
        filename=data.draw(st.sampled_from(["", "a.jpg", "ä & <b>.png"])),
    )
    file = tmp_path_factory.mktemp("voc") / "a.xml"
    write_annotation(file, given_one)
    read = read_annotation(file)
    assert (read.names, read.size, read.filename) == (names, given_one.size, given_one.filename)
    assert read.boxes.dtype == np.float64 and read.boxes.shape == (n, 4) and len(read) == n
    assert np.array_equal(read.boxes, given_one.boxes) and np.array_equal(read.difficult, given_one.difficult)


def test_a_file_as_annotation_tools_write_it() -> None:
    parts = f"<part><name>head</name>{BOX.format(1, 1, 2, 2)}</part>"
    read = parse_annotation(
        document(
            f"<name> traffic\n light </name><difficult>1</difficult>{parts}{BOX.format(48, 240, 195, 371)}",
            "<name>dog</name><bndbox><ymax>9.5</ymax><xmax> 8 </xmax><ymin>2</ymin><xmin>1</xmin></bndbox>",
            before="<filename>a.jpg</filename><size><width>353</width><height>500</height></size>",
        )
    )
    assert read.names == ["traffic light", "dog"] and read.size == (500, 353) and read.filename == "a.jpg"
    assert read.boxes.tolist() == [[48, 240, 195, 371], [1, 2, 8, 9.5]] and read.difficult.tolist() == [True, False]


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>5</height></size>"])
def test_a_size_that_says_nothing_is_none(size: str) -> None:
    read = parse_annotation(document(before=size))
    assert read.size is None and read.boxes.shape == (0, 4) and len(read) == 0


def test_encodings_that_the_file_names_are_read() -> None:
    text = "<annotation><object><name>Gehölz</name>" + BOX.format(1, 2, 3, 4) + "</object></annotation>"
    for encoding in ("latin-1", "utf-16"):
        data = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
        assert parse_annotation(data).names == ["Gehölz"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", ", line 1: is not valid XML (no element found); restore the file"),
        (b"<annotation>\n<object>\n</annotation>", ", line 3: is not valid XML (mismatched tag)"),
        (b"\xff\xd8\xff\xe0 a picture", ", line 1: is not valid XML"),
        (b"<annotation>&passwords;</annotation>", ", line 1: is not valid XML (undefined entity)"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', ": its encoding cannot be read (unknown encoding"),
        (b'<?xml version="1.0" encoding="gbk"?><annotation/>', ": its encoding cannot be read (multi-byte"),
        (b"<html/>", ": the outermost element is <html>; a VOC annotation has <annotation>"),
        (document(BOX.format(1, 2, 3, 4)), ": object 1 has no <name>"),
        (document("<name>dog</name>"), ": object 1 ('dog') has no <bndbox>; add its box or remove the object"),
        (
            document(f"<name>a</name>{BOX.format(1, 2, 3, 4)}", "<name>b</name><bndbox/>"),
            "object 2 ('b'): <xmin> is ''",
        ),
        (document(f"<name>dog</name>{BOX.format(1, 2, 'wide', 4)}"), "<xmax> is 'wide'; write a number of pixels"),
        (document(f"<name>dog</name>{BOX.format(1, 'nan', 3, 4)}"), "<ymin> is 'nan'"),
        (document(f"<name>dog</name>{BOX.format(1, 2, 3, '1e999')}"), "<ymax> is '1e999'"),
        (document(before="<size><width>many</width></size>"), ": size: <width> is 'many'"),
    ],
)
def test_faults_name_file_and_object(tmp_path: Path, data: bytes, fault: str) -> None:
    file = tmp_path / "a.xml"
    file.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_annotation(file)
    assert str(caught.value).startswith(str(file)) and fault in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.xml: cannot be read \(No such file"):
        read_annotation(tmp_path / "none.xml")
    with (tmp_path / "a.xml").open("wb") as sparse:
        sparse.truncate(10**10)
    with pytest.raises(DataError, match=r"a\.xml: is larger than 2 MB"):
        read_annotation(tmp_path / "a.xml")


def test_a_name_that_xml_does_not_have_is_not_written(tmp_path: Path) -> None:
    for name in ("a\x00b", "a\ud800", " "):
        with pytest.raises(DataError, match="cannot be written as XML; rename the class"):
            write_annotation(tmp_path / "a.xml", Annotation([name], np.ones((1, 4)), np.zeros(1, bool)))
    assert not list(tmp_path.iterdir())


BOMBS = """
import json, resource, sys
from data.formats.voc_xml import MOST_BYTES, parse_annotation
from utils.errors import DataError

laughs = '<!DOCTYPE a [<!ENTITY a0 "lol">' + "".join(
    f'<!ENTITY a{i} "' + f"&a{i - 1};" * 10 + '">' for i in range(1, 30)
) + "]><annotation>&a29;</annotation>"
BOMBS = {
    "laughs": laughs,
    "one large entity": '<!DOCTYPE a [<!ENTITY a "' + "x" * 10**6 + '">]><a>' + "&a;" * 10**5 + "</a>",
    "file": f'<!DOCTYPE a [<!ENTITY a SYSTEM "file://{sys.argv[1]}">]><annotation>&a;</annotation>',
    "parameter": f'<!DOCTYPE a [<!ENTITY % a SYSTEM "file://{sys.argv[1]}"> %a;]><annotation/>',
    "grammar": f'<!DOCTYPE a SYSTEM "file://{sys.argv[1]}"><annotation/>',
    "deep": "<a>" * (MOST_BYTES // 3),
    "wide": "<b>" + "<a/>" * (MOST_BYTES // 4 - 2) + "</b>",
}
opened = []
sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event in ("open", "socket.connect") else None)
found = {}
for name, text in BOMBS.items():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        parse_annotation(text.encode(), "a.xml")
        answer = "read"
    except DataError as error:
        answer = str(error)
    found[name] = answer, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000
print(json.dumps([found, opened]))
"""


def test_bombs_are_refused_with_little_memory_and_nothing_is_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    command = [sys.executable, "-c", BOMBS, str(secret)]
    job = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=120)
    assert job.returncode == 0, job.stderr
    found, opened = json.loads(job.stdout)
    words = {"deep": "is not valid XML (no element found)", "wide": "the outermost element is <b>"}
    for name, (answer, megabytes) in found.items():
        assert words.get(name, "has a document type (<!DOCTYPE ...>), which is not read; remove it") in answer, name
        assert megabytes < 200, (name, megabytes)
    assert str(secret) not in " ".join(opened)


def test_corners_are_edges_unless_they_count_from_one() -> None:
    whole = np.array([[0, 0, 200, 100]])
    assert fit_boxes(whole, (100, 200)).boxes.tolist() == [[0, 0, 1, 1]]
    by_pixels = fit_boxes(np.array([[1, 1, 200, 100], [51, 26, 51, 26]]), (100, 200), one_based=True)
    assert by_pixels.boxes.tolist() == [[0, 0, 1, 1], [0.25, 0.25, 0.255, 0.26]] and not by_pixels.clipped.any()


def test_boxes_are_clipped_and_those_without_area_marked() -> None:
    boxes = np.array(
        [
            [10, 10, 20, 20],
            [-5, 10, 20, 20],
            [190, 90, 210, 110],
            [10, 10, 10, 20],  # no width
            [20, 10, 10, 20],  # corners in the wrong order
            [200, 0, 250, 50],  # outside
            [0, 0, 200, 100],
        ]
    )
    fitted = fit_boxes(boxes, (100, 200))
    assert fitted.solid.tolist() == [True, True, True, False, False, False, True]
    assert fitted.clipped.tolist() == [False, True, True, False, False, True, False]
    np.testing.assert_allclose(fitted.boxes[[1, 2]], [[0, 0.1, 0.1, 0.2], [0.95, 0.9, 1, 1]])
    assert fit_boxes(np.zeros((0, 4)), (100, 200)).boxes.shape == (0, 4)


@given(arrays(np.float64, (5, 4), elements=st.floats(-1e6, 1e6)), st.booleans())
def test_fitted_boxes_lie_in_their_picture(boxes: np.ndarray, one_based: bool) -> None:
    fitted = fit_boxes(boxes, (480, 640), one_based)
    assert ((fitted.boxes >= 0) & (fitted.boxes <= 1)).all()
    assert (fitted.boxes[fitted.solid, 2:] > fitted.boxes[fitted.solid, :2]).all()


def test_the_limit_leaves_room_for_thousands_of_objects() -> None:
    data = document(*[f"<name>cell</name>{BOX.format(1000, 1000, 1010, 1010)}"] * 5000)
    assert len(data) < MOST_BYTES and len(parse_annotation(data)) == 5000


def test_the_real_set_has_the_published_counts(shared: Path) -> None:
    files = sorted((shared / "data/bccd/Annotations").glob("*.xml"))
    read = [read_annotation(file) for file in files]
    names = [name for annotation in read for name in annotation.names]
    assert len(files) == 364
    assert {name: names.count(name) for name in set(names)} == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert sum(int((~fit_boxes(annotation.boxes, annotation.size).solid).sum()) for annotation in read) == 2
