"""A folder that may not be looked into gets one sentence, in a data YAML and in a scan."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from PIL import Image

from data.config import load_data_config
from data.dataset import TaskDataset
from data.permissions import permissions_named
from utils.errors import DataError


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Let a question of ``Path`` fail below a folder, as it does for users who may not search it."""
    real = getattr(Path, name)

    def guarded(self: Path) -> bool:
        if folder in self.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, name, guarded)


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    for name in ("set/images", "set/labels"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "set/images/a.png")
    path = tmp_path / "data.yaml"
    path.write_text("path: set\ndetect: {train: images, names: [a]}\n")
    return path


def test_other_errors_pass() -> None:
    with pytest.raises(FileNotFoundError), permissions_named("x"):
        raise FileNotFoundError
    with permissions_named("x"):
        pass


def test_a_data_yaml_names_itself_and_the_folder(yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "exists", yaml.parent / "set")
    with pytest.raises(DataError, match=r"data\.yaml: no access to .*images \(Permission denied\); mend its perm"):
        load_data_config(yaml)


def test_a_scan_names_the_label_file(yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data_config(yaml).tasks["detect"]
    refuse(monkeypatch, "exists", yaml.parent / "set/labels")
    with pytest.raises(DataError, match=r"data\.yaml: no access to .*a\.txt \(Permission denied\)"):
        TaskDataset(data, "train")
