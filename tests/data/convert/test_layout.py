"""Names of pictures by which their labels can be told apart."""

from __future__ import annotations

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from data.convert.layout import own_names

STEMS = st.sampled_from(["a", "A", "a_2", "a_leftImg8bit", "images", "b.c"])
PATHS = st.builds(
    "{}/{}{}".format, st.sampled_from([".", "x", "images", "x/images"]), STEMS, st.sampled_from([".jpg", ".png"])
)


@given(st.lists(PATHS, unique=True), st.sampled_from(["", "_leftImg8bit"]))
def test_every_picture_has_labels_of_its_own(paths: list[str], end: str) -> None:
    names = own_names(paths, end)
    labels = [str(PurePosixPath(name).with_suffix("")).casefold() for name in names]
    assert len(set(labels)) == len(paths)
    assert all(label.endswith(end.casefold()) for label in labels)
    for name, path in zip(names, paths, strict=True):
        assert PurePosixPath(name).suffix == PurePosixPath(path).suffix
        assert "images" not in PurePosixPath(name).parent.parts


def test_names_stay_where_they_can() -> None:
    assert own_names(["x/a.jpg", "x/b.c.png"]) == ["x/a.jpg", "x/b.c.png"]
    assert own_names(["town/a_leftImg8bit.png", "b.jpg"], "_leftImg8bit") == [
        "town/a_leftImg8bit.png",
        "b_leftImg8bit.jpg",
    ]
