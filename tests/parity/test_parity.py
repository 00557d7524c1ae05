"""The numbers that reference implementations published, and that the checker notices when ours are not those."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.check import check, main
from tests.parity.published import Report, Tolerance
from tests.parity.seeded import seeded_image, seeded_tensor
from utils.errors import UsageError

HERE = Path(__file__).parent
FIXTURES = {path.stem: path for path in sorted(HERE.rglob("*.json"))}
NOT_HERE = {
    "metrics_ap": {"case0 fitness2_miou_0.7", "case1 fitness2_miou_0.7", "case2 fitness2_miou_0.7"},
    "metrics_augment": {"box_candidates_expected"},
    "metrics_schedules": {
        "accumulate start_round_rule",
        "accumulate after_warmup_original",
        "accumulate weight_decay_factor",
    },
}
"""Published values that have no counterpart here; nothing else may be skipped."""


@pytest.mark.parametrize("name", FIXTURES)
def test_published_numbers(name: str) -> None:
    report = check(FIXTURES[name])
    assert report.misses == []
    assert set(report.skipped) == NOT_HERE.get(name, set())
    assert report.compared >= 3


def test_all_fixtures_of_the_project_are_here() -> None:
    heads = [f"yolov5s_city_seg_{head}" for head in ("base", "bise", "lab", "psp")]
    metrics = ["nms", "ap", "miou", "boxes", "schedules", "autoanchor", "augment", "segmentation"]
    models = ["yolov5s", "yolov5s6", "yolov5s-transformer", "yolov3-tiny"]
    yolox = [f"yolox-{kind}" for kind in ("nano", "tiny", "s", "s_train", "pose-tiny")]
    yolox += [f"yolox_{kind}" for kind in ("simota", "pose_loss", "pipeline")]
    mmyolo = [f"yoloms-xs{kind}" for kind in ("", "-se", "-losses")] + ["yolov6-t-ms", "yolov8-n", "yolov8-n-ms"]
    mmyolo += ["yoloms_dsl", "yolov8_tal", "yolov6_assign"]
    wanted = {"yolov5n_v7", "losses_synthetic", *heads, *(f"metrics_{m}" for m in metrics), *yolox, *mmyolo}
    wanted |= {"yolos-ti", "yolos-ti-losses", "ms-detr-pp-300-losses"}
    assert wanted | {f"{model}{mode}" for model in models for mode in ("", "_train")} <= set(FIXTURES)


def changed_copy(name: str, folder: Path, **facts: object) -> Path:
    """Copy a fixture and change some of its facts."""
    source = FIXTURES[name]
    path = folder / source.name
    path.write_text(json.dumps({**json.loads(source.read_text()), **facts}))
    if source.with_suffix(".npz").is_file():
        path.with_suffix(".npz").write_bytes(source.with_suffix(".npz").read_bytes())
    return path


def test_another_width_misses_shapes_and_parameters(tmp_path: Path) -> None:
    given = json.loads(FIXTURES["yolov5n_v7"].read_text())["yaml"]
    path = changed_copy("yolov5n_v7", tmp_path, yaml={**given, "nc": 79})
    report = check(path)
    assert {"state shapes and types that differ", "parameters", "eval_pred"} <= set(report.misses)


def test_a_changed_array_is_a_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed_copy("yolov5n_v7", tmp_path)
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    arrays["eval_raw_1"] = arrays["eval_raw_1"] + 2e-3
    np.savez(path.with_suffix(".npz"), **arrays, something_new=np.zeros(3))
    report = check(path)
    assert report.misses == ["eval_raw_1", "something_new"]
    assert "MISSED: eval_raw_1, something_new" in capsys.readouterr().out


def test_a_train_fixture_alone_uses_our_own_names(tmp_path: Path) -> None:
    report = check(changed_copy("yolov5s_train", tmp_path))
    assert report.misses == [] and report.skipped == ["state"]


def test_a_gain_scales_every_tensor_that_it_ends(tmp_path: Path) -> None:
    report = check(changed_copy("yolov5n_v7", tmp_path, gain={"model.0.conv.weight": 1.5}))
    assert "eval_layers std" in report.misses


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = FIXTURES["metrics_autoanchor"], changed_copy("metrics_autoanchor", tmp_path, fitness=0.5)
    stranger = tmp_path / "stranger.json"
    stranger.write_text(json.dumps({"model": "resnet50"}))

    def run(*paths: Path) -> int | None:
        monkeypatch.setattr("sys.argv", ["check.py", *map(str, paths)])
        try:
            main()
        except SystemExit as end:
            return end.code
        return None

    assert run(good) is None
    assert run(good, bad) == 1
    assert run(stranger, good) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[1]", "{}"])
def test_what_is_no_fixture_is_refused_in_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"x\.json"):
        check(path)


def test_seeded_values_follow_name_and_shape() -> None:
    assert seeded_tensor("a.bn.num_batches_tracked", ()).dtype == np.int64
    assert seeded_tensor("a.bn.running_var", (500,)).min() >= 1
    matrix = seeded_tensor("a.conv.weight", (64, 32, 3, 3))
    assert matrix.dtype == np.float32 and abs(matrix.std() * np.sqrt(32 * 9) - 1.4) < 0.05
    assert abs(seeded_tensor("a.bn.weight", (500,)).mean() - 1) < 0.02
    assert np.array_equal(matrix, seeded_tensor("a.conv.weight", (64, 32, 3, 3)))
    assert not np.array_equal(matrix, seeded_tensor("b.conv.weight", (64, 32, 3, 3)))
    assert seeded_image((1, 3, 4, 4), 3).max() < 1


def test_a_report_counts_wrong_shapes_and_non_finite_values_as_misses() -> None:
    report = Report("x")
    report.close("shape", [1.0], [1.0, 2.0], Tolerance(1, 1))
    report.close("nan", [float("nan")], [1.0], Tolerance(1, 1))
    report.close("zero tolerance", [1.0], [1.0], Tolerance(0, 0))
    report.close("border", [1.1], [1.0], Tolerance(0.1001, 0))
    assert report.misses == ["shape", "nan"]
