"""Class maps for the benchmark server of Cityscapes, and the crops of objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.formats.cityscapes import LABEL_IDS, NAMES, label_ids_to_train_ids, train_ids_to_label_ids
from data.formats.mask_png import read_mask
from tests.utils.result_formats.found import AREAS, OBJECTS, frame, still
from utils.errors import UsageError
from utils.result_files import ResultFiles, Wanted
from utils.result_formats.submission import require_cityscapes

CLASSES = {"segment": NAMES, "cars": ["car"], "lanes": ["road", "line"]}


def test_maps_hold_label_ids_under_the_servers_names(tmp_path):
    with ResultFiles(tmp_path, CLASSES, Wanted(pictures=False, submission=True)) as files:
        files.save(still(files, "test/berlin_000000_000019_leftImg8bit.png", segment=AREAS, lanes=AREAS, cars=OBJECTS))
        files.save(frame(files.name_for(Path("drive.mp4")), 2, segment=AREAS))
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["results/berlin_000000_000019_leftImg8bit_pred.png", "results/drive_2_pred.png"]
    written = read_mask(tmp_path / names[0])
    assert sorted(np.unique(written)) == sorted(LABEL_IDS)
    np.testing.assert_array_equal(label_ids_to_train_ids(written), AREAS.class_map.numpy())


def test_the_table_goes_there_and_back():
    every = np.arange(256, dtype=np.uint8)[None]
    there = train_ids_to_label_ids(every)
    assert there[0, 0] == 7 and there[0, 18] == 33 and (there[0, 19:] == 0).all()
    np.testing.assert_array_equal(label_ids_to_train_ids(there)[0, :19], np.arange(19))


def test_other_models_are_refused_in_one_sentence():
    require_cityscapes({"lanes": ["road"], "segment": [name.title() for name in NAMES]})
    with pytest.raises(UsageError, match=r"--submit needs .* 19 training classes .* lanes has 2: road, line \.\.\."):
        require_cityscapes({"lanes": CLASSES["lanes"]})
    with pytest.raises(UsageError, match="segment has 19"):
        require_cityscapes({"segment": NAMES[::-1]})
