"""The benchmark of memory: growth is seen, none is made up, and an end that is not as it should be is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stream_memory import Growth, main, parse_options, require_result, resident, watched
from utils.errors import RunError, UsageError
from utils.video import VideoWriter

linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.mark.parametrize("per_hour", [0.0, 60.0, -30.0])
def test_growth_is_that_of_the_readings(per_hour: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    warming_up = np.where(np.arange(200) < 30, -80.0, 0.0)
    hours = np.arange(200) * 6 / 3600
    growth = Growth.of(list(500 + per_hour * hours + noise + warming_up), 6)
    assert (growth.last - growth.first) / growth.hours == pytest.approx(per_hour, abs=1)
    assert growth.first == pytest.approx(500 + per_hour * hours[60], abs=0.5)
    assert f"{(growth.last - growth.first) / growth.hours:+.1f} MiB per hour" in str(growth)


@linux_only
def test_memory_of_a_process_is_read() -> None:
    code = "import time; held = b'x' * 50 * 2**20; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        while resident(process.pid) < 50:
            assert process.poll() is None
        assert all(50 <= level < 90 for level in watched(process, 0.05, 10))
    finally:
        process.kill()
        process.wait()
    with pytest.raises(RunError, match="ended by itself"):
        watched(process, 0.01, 10)
    assert resident(os.getpid()) > 10


def test_a_result_that_is_not_whole_is_told(tmp_path: Path) -> None:
    (tmp_path / "watched").mkdir()
    with VideoWriter(tmp_path / "watched" / "door.mp4", 25) as video:
        for _ in range(3):
            video.write(np.zeros((16, 16, 3), np.uint8))
    line = "stream 1/1 door: 3 frames, 2 dropped taken"
    assert require_result(f"{line}\n1 stream of 3 frames done\n", 130, tmp_path) == line
    for said, code, words in (
        ("1 stream of 4 frames done", 130, "door.mp4 has 3 frames, but 4 were told"),
        ("1 stream of 3 frames done", 1, "exit code 1"),
        ("no frame came", 130, "no frame came"),
    ):
        with pytest.raises(RunError, match=words):
            require_result(said, code, tmp_path)


@linux_only
@pytest.mark.parametrize(("at_the_end", "fails"), [(515.0, False), (517.0, True)])
def test_more_growth_than_is_allowed_is_an_error(at_the_end, fails, monkeypatch, capsys, tmp_path) -> None:
    levels = [500.0] * 50 + [at_the_end] * 50
    said = "stream 1/1 door: 3 frames taken\n1 stream of 3 frames done\n"
    monkeypatch.setattr("benchmarks.stream_memory.watch_stream", lambda *_: (levels, said, 130))
    arguments = ["--weights", "a.pt", "--most", "16", "--json", str(tmp_path / "levels.json")]
    with pytest.raises(RunError, match="has grown by more than 16 MiB") if fails else nullcontext():
        main(arguments)
    assert f"500.0 MiB at first, {at_the_end} MiB at the end" in capsys.readouterr().out
    assert json.loads((tmp_path / "levels.json").read_text()) == {"minutes": 20.0, "mebibytes": levels}


@linux_only
def test_options() -> None:
    options = parse_options(["--weights", "a.pt", "--minutes", "0.5", "--", "--track", "--save-csv"])
    assert (options.minutes, options.more) == (0.5, ["--track", "--save-csv"])
    for name in ("--minutes", "--rate", "--readings"):
        with pytest.raises(UsageError, match=name):
            parse_options(["--weights", "a.pt", name, "0"])
