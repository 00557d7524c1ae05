"""Run folders, atomic files and unique names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import UsageError
from utils.files import UniqueNames, atomic_write, atomic_writer, increment_run_folder, remove_leftovers, short_name


def test_run_folders_count_up(tmp_path):
    project = tmp_path / "runs" / "train"
    names = [increment_run_folder(project, "exp").name for _ in range(3)]
    assert names == ["exp", "exp2", "exp3"]
    assert increment_run_folder(project, "exp", exist_ok=True) == project / "exp"
    assert increment_run_folder(project, "other", exist_ok=True).is_dir()
    (project / "exp10").mkdir()
    (project / "experiment99").mkdir()
    (project / "exp_50").mkdir()
    assert increment_run_folder(project, "exp").name == "exp11"


def test_run_folders_are_never_shared(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: increment_run_folder(tmp_path, "exp"), range(40)))
    assert len(set(folders)) == 40


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/abs"])
def test_run_name_must_be_one_folder(tmp_path, name):
    with pytest.raises(UsageError, match="--name"):
        increment_run_folder(tmp_path, name)


def test_run_folder_where_a_file_stands(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="--project"):
        increment_run_folder(tmp_path / "file", "exp")
    with pytest.raises(UsageError, match="--name"):
        increment_run_folder(tmp_path, "file", exist_ok=True)
    with pytest.raises(UsageError, match="no such folder can be made"):
        increment_run_folder(tmp_path, 300 * "a")


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_writer(path) as file:
        file.write(b"half of the n")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("letter", ["x", "街"])
def test_names_as_long_as_the_disk_takes_them(tmp_path, letter):
    name = letter * (251 // len(letter.encode())) + ".jpg"
    atomic_write(tmp_path / name, b"whole")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert name.startswith(short_name(name)) and 170 < len(short_name(name).encode()) <= 180
    assert short_name(name[:50]) == name[:50]


def test_written_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic_write(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_unique_names():
    names = UniqueNames()
    taken = [names.take(name) for name in ("a.jpg", "a.jpg", "A.jpg", "a_2.jpg", "a.png", "b", "b")]
    assert taken == ["a.jpg", "a_2.jpg", "A_3.jpg", "a_2_2.jpg", "a.png", "b", "b_2"]


@given(st.lists(st.sampled_from(["a.jpg", "A.jpg", "a_2.jpg", "a_2_2.jpg", "a", "a_2"]), max_size=30))
def test_unique_names_never_collide(wanted):
    names = UniqueNames()
    taken = [names.take(name).casefold() for name in wanted]
    assert len(set(taken)) == len(wanted)


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    kept = ["last.safetensors", ".hidden", ".notes.tmp", "a.1-0a1b2c3d.tmp"]
    for name in [*kept, ".last.safetensors.27143-054754e5.tmp"]:
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
