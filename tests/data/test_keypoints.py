"""What keypoints are: COCO's constants, plain values and back, and descriptions that do not fit themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import cocoeval

from data.keypoint_block import read_keypoints
from data.keypoints import COCO_PERSON, KeypointSpec, default_keypoints, generic_keypoints
from data.synthetic import KEYPOINT_NAMES
from data.task_data import TaskData
from utils.errors import DataError


@st.composite
def specs(draw: st.DrawFn) -> KeypointSpec:
    """Any keypoints: random pairs trade places, random pairs are linked."""
    names = draw(st.lists(st.text("abcdefgh_019 ", min_size=1), min_size=1, max_size=9, unique=True))
    count = len(names)
    order, flip = draw(st.permutations(range(count))), list(range(count))
    for place in range(draw(st.integers(0, count // 2))):
        first, second = order[2 * place : 2 * place + 2]
        flip[first], flip[second] = second, first
    sigmas = draw(st.lists(st.floats(1e-3, 1), min_size=count, max_size=count))
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda link: link[0] != link[1])
    links = draw(st.lists(ends, max_size=5)) if count > 1 else []
    return KeypointSpec(tuple(names), tuple(flip), tuple(sigmas), tuple(links))


def test_cocos_person() -> None:
    assert len(COCO_PERSON) == 17 and list(COCO_PERSON.names) == KEYPOINT_NAMES
    for name, partner in zip(COCO_PERSON.names, COCO_PERSON.flip, strict=True):
        mirrored = {"left": "right", "right": "left"}.get(name.split("_")[0])
        wanted = name if mirrored is None else f"{mirrored}_{name.split('_')[1]}"
        assert COCO_PERSON.names[partner] == wanted
        assert COCO_PERSON.sigmas[partner] == COCO_PERSON.sigmas[COCO_PERSON.names.index(name)]
    assert COCO_PERSON.flip_pairs == tuple((left, left + 1) for left in range(1, 17, 2))
    assert len(COCO_PERSON.skeleton) == 19 and {end for link in COCO_PERSON.skeleton for end in link} == set(range(17))
    assert COCO_PERSON.sigmas == pytest.approx(cocoeval.Params("keypoints").kpt_oks_sigmas)


def test_a_number_stands_for_coco_or_for_nothing_known() -> None:
    assert default_keypoints(17) is COCO_PERSON
    five = default_keypoints(5)
    assert five == generic_keypoints(5) and five.names == ("0", "1", "2", "3", "4")
    assert five.flip_pairs == () and five.skeleton == () and five.sigmas == (0.2,) * 5


@given(specs())
def test_plain_values_and_back(spec: KeypointSpec) -> None:
    assert KeypointSpec.from_plain(json.loads(json.dumps(spec.to_plain()))) == spec


@given(specs(), st.booleans(), st.booleans())
def test_every_way_to_write_a_block_reads_the_same(spec: KeypointSpec, flip_by_pairs: bool, by_name: bool) -> None:
    def end(index: int) -> str | int:
        return spec.names[index] if by_name else index

    block = {
        "names": list(spec.names),
        "flip": [[end(a), end(b)] for a, b in spec.flip_pairs] if flip_by_pairs else list(spec.flip),
        "sigmas": list(spec.sigmas),
        "skeleton": [[end(a), end(b)] for a, b in spec.skeleton],
    }
    text = yaml.safe_dump(block, allow_unicode=True)
    assert read_keypoints(Path("d.yaml"), "pose.", yaml.safe_load(text), None) == spec


GOOD = {"names": ("a", "b", "c"), "flip": (0, 2, 1), "sigmas": (0.1, 0.2, 0.3), "skeleton": ((0, 1),)}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"names": ()}, "at least one"),
        ({"names": ("a", "b", "a")}, "each once"),
        ({"flip": (0, 1)}, "3 names of keypoints, 2 mirror partners and 3 sigmas"),
        ({"flip": (1, 2, 0)}, "keypoint 0 is mirrored to 1, which is not mirrored back to 0"),
        ({"flip": (0, 1, 3)}, "keypoint 2 is mirrored to 3"),
        ({"sigmas": (0.1, 0.2, 0)}, "above 0"),
        ({"sigmas": (0.1, 0.2, float("nan"))}, "above 0"),
        ({"skeleton": ((0, 3),)}, r"link \(0, 3\) does not join"),
        ({"skeleton": ((1, 1),)}, r"link \(1, 1\) does not join"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, fault: str) -> None:
    spec = KeypointSpec(**GOOD)
    with pytest.raises(ValueError, match=fault):
        replace(spec, **change)
    plain = {**spec.to_plain(), **{key: list(value) for key, value in change.items()}}
    with pytest.raises(ValueError, match=fault):
        KeypointSpec.from_plain(plain)


@pytest.mark.parametrize("damage", [{"names": None}, {"flip": [[0]]}, {"sigmas": ["x"]}, {"skeleton": [[0, 1, 2]]}])
def test_damaged_plain_values_are_refused(damage: dict) -> None:
    with pytest.raises(ValueError):
        KeypointSpec.from_plain({**KeypointSpec(**GOOD).to_plain(), **damage})
    missing = {key: value for key, value in KeypointSpec(**GOOD).to_plain().items() if key not in damage}
    with pytest.raises(ValueError, match="damaged"):
        KeypointSpec.from_plain(missing)


EYES = {"names": ["nose", "left_eye", "right_eye"], "flip": [0, 2, 1]}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": []}, r"unknown key `pose\.kpt\.name`\. Did you mean 'names'\?"),
        ({"names": None}, r"`pose\.kpt\.names` is None; list the keypoints"),
        ({"names": ["nose", True]}, r"`pose\.kpt\.names` is True; each name is a text"),
        ({"names": ["a", "b", "a"]}, "holds 'a' twice"),
        ({"flip": None}, "`pose.kpt.flip` is missing, but there are 'left_eye' and 'right_eye'"),
        ({"flip": [0, 2]}, "`pose.kpt.flip` has 2 entries, but `pose.kpt.names` has 3"),
        ({"flip": [1, 2, 0]}, "`pose.kpt.flip` sends keypoint 0 to 1, but 1 to 2"),
        ({"flip": [0, 3, 1]}, r"`pose\.kpt\.flip` is 3; each entry is an index in 0\.\.2"),
        ({"flip": [0, "x", 1]}, r"`pose\.kpt\.flip` is 'x'; each entry is an index"),
        ({"flip": "nose"}, "`pose.kpt.flip` is 'nose'; give pairs"),
        ({"flip": [["left_eye", "right_ey"]]}, "the keypoint 'right_ey', which is none .* Did you mean 'right_eye'"),
        ({"flip": [["left_eye", "left_eye"]]}, "a pair has two different keypoints"),
        ({"flip": [[0, 1], [2, 1]]}, "`pose.kpt.flip` names 'left_eye' in two pairs"),
        ({"flip": [[0, 1, 2]]}, r"`pose\.kpt\.flip` is \[0, 1, 2\]; each entry is a pair"),
        ({"sigmas": [0.1, 0.2]}, "`pose.kpt.sigmas` has 2 entries"),
        ({"sigmas": [0.1, 0, 0.2]}, "`pose.kpt.sigmas` is 0; each sigma is a number above 0"),
        ({"sigmas": [0.1, True, 0.2]}, "`pose.kpt.sigmas` is True"),
        ({"sigmas": [0.1, float("nan"), 0.2]}, "`pose.kpt.sigmas` is nan"),
        ({"sigmas": 0.1}, "`pose.kpt.sigmas` is 0.1; give one number above 0 per keypoint"),
        ({"skeleton": [[0, 3]]}, "the keypoint 3, which is none of the 3"),
        ({"skeleton": [[0, -1]]}, "the keypoint -1, which is none of the 3"),
        ({"skeleton": [[0, [1]]]}, r"the keypoint \[1\], which is none of the 3"),
        ({"skeleton": [0, 1]}, r"`pose\.kpt\.skeleton` is 0; each entry is a pair"),
        ({"skeleton": {"a": 1}}, "`pose.kpt.skeleton` is .*; give a list of pairs"),
    ],
)
def test_a_wrong_block_gets_one_sentence(change: dict, fault: str) -> None:
    assert len(read_keypoints(Path("d.yaml"), "pose.", EYES, None)) == 3
    with pytest.raises(DataError, match=fault) as caught:
        read_keypoints(Path("d.yaml"), "pose.", {**EYES, **change}, None)
    assert str(caught.value).startswith("d.yaml: ") and "\n" not in str(caught.value)


def test_a_block_and_a_number() -> None:
    def read(block: object, count: object) -> KeypointSpec | None:
        return read_keypoints(Path("d.yaml"), "pose.", block, count)

    assert read(None, None) is None and read(None, 17) is COCO_PERSON and len(read(EYES, 3)) == 3
    assert read({"names": ["a", "b"]}, None) == replace(generic_keypoints(2), names=("a", "b"))
    with pytest.raises(DataError, match=r"`pose\.keypoints` is 4, but `pose\.kpt\.names` has 3 entries"):
        read(EYES, 4)
    for wrong in (0, -1, True, "17", 1.5):
        with pytest.raises(DataError, match=r"`pose\.keypoints` is .*; give the number of keypoints"):
            read(None, wrong)
    with pytest.raises(DataError, match=r"`pose\.kpt` is 5; write, for instance"):
        read(5, None)


def test_task_data_knows_both_the_number_and_the_description() -> None:
    def data(**values: object) -> TaskData:
        return TaskData("pose", "pose", "yolo_txt", ["person"], {}, **values)

    assert data(keypoints=17).keypoint_spec is COCO_PERSON
    assert data(keypoint_spec=generic_keypoints(4)).keypoints == 4
    assert data().keypoints == 0 and data().keypoint_spec is None
    with pytest.raises(ValueError, match="5 keypoints, but 17"):
        data(keypoints=5, keypoint_spec=COCO_PERSON)
