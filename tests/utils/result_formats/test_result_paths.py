"""Names of result files: no two sources of a run write to one file, and frames are not remembered."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.utils.result_formats.found import PICTURE
from utils.crops import Crop, save_crops
from utils.result_formats.found_picture import FoundPicture
from utils.result_formats.result_paths import ResultPaths

STEMS = st.lists(st.sampled_from(["a", "A", "a_1", "a_1_2", "a_2", "a_1_colour", "a_colour", "a_1_2_colour", "v1.0"]))


def names_of(stem: str, number: int | None) -> list[str]:
    """Return the names of all files of a picture."""
    name = stem if number is None else f"{stem}_{number}"
    crops = [f"{name}_2.jpg", f"{name}.jpg" if number is None else f"{name}_1.jpg"]
    return [f"{name}.txt", f"{name}.png", f"{name}_colour.png", *crops]


@settings(max_examples=60, deadline=None)
@given(STEMS, STEMS)
def test_no_two_pictures_have_a_file_in_common(stills, moving):
    with tempfile.TemporaryDirectory() as folder:
        paths = ResultPaths(Path(folder))
        stems = [(paths.take_still(stem), (None,)) for stem in stills]
        stems += [(paths.take_moving(stem), (1, 2)) for stem in moving]
        files = []
        for stem, number in [(stem, number) for stem, numbers in stems for number in numbers]:
            picture = FoundPicture(stem, "", PICTURE, {}, frame=number)
            files += [str(paths.path("x", name, picture)).casefold() for name in names_of(stem, number)]
    assert len(set(files)) == len(files)
    assert len({stem.casefold() for stem, _ in stems}) == len(stems)


def test_a_video_keeps_its_name_beside_another_and_gives_way_to_a_picture(tmp_path):
    paths = ResultPaths(tmp_path)
    assert [paths.take_moving(stem) for stem in ("clip", "clip_1", "Clip")] == ["clip", "clip_1", "Clip_2"]
    paths = ResultPaths(tmp_path)
    assert paths.take_still("clip_1") == "clip_1"
    assert [paths.take_moving(stem) for stem in ("clip", "clip_1")] == ["clip_2", "clip_1_2"]


def test_long_names_leave_room_for_what_is_added(tmp_path):
    paths = ResultPaths(tmp_path)
    stills = [paths.take_still("街" * 80 + end) for end in "ab"]
    film = paths.take_moving("x" * 250)
    assert [len(stem.encode()) for stem in (*stills, film)] == [180, 182, 180] and stills[1].endswith("街_2")
    for stem in stills:
        paths.path("masks", f"{stem}_colour.png", FoundPicture(stem, "", PICTURE, {})).touch()
    crop = Crop(PICTURE, (0, 0, 1, 1), 0.5, 3, "y" * 300, stills[0])
    save_crops(tmp_path / "crops", [crop, crop])
    assert len(list((tmp_path / "crops" / ("y" * 180)).iterdir())) == 2


def test_a_stream_without_end_leaves_nothing_in_memory(tmp_path):
    paths = ResultPaths(tmp_path)
    stem = paths.take_moving("camera")

    def known() -> int:
        gc.collect()
        return len(gc.get_objects())

    def go_on(numbers: range) -> None:
        for number in numbers:
            paths.path(
                "labels", f"{stem}_{number}.txt", FoundPicture(f"{stem}_{number}", "", PICTURE, {}, frame=number)
            )

    go_on(range(1, 10))
    before = known()
    go_on(range(10, 1010))
    assert known() - before < 50
    assert sum(len(names._last_number) for names in paths._files.values()) == 0
