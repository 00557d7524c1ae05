from __future__ import annotations

import logging
import multiprocessing
import os
import time

import pytest

from data import watchdog
from data.transforms.detection import DetectionTrainTransform
from data.watchdog import ReadingTable, Wait
from tests.data.fake_dataset import FakeDataset, train_loader
from utils.errors import RunError


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def wait_for(seconds: float, table: ReadingTable, step: float = 2.0) -> None:
    clock = Clock()
    waiting = Wait(table, clock)
    while clock.now - 1000 + step < seconds:
        clock.now += step
        waiting.look()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_another_process_writes_what_this_one_reads():
    table = ReadingTable(3)
    child = multiprocessing.get_context("fork").Process(target=table.write, args=(1, "/data/grün.jpg"))
    child.start()
    child.join()
    time.sleep(0.05)
    idle, busy, other = table.read()
    assert (busy.worker, busy.pid, busy.file) == (1, child.pid, "/data/grün.jpg") and 0 < busy.seconds < 60
    assert not idle.file and not other.file
    table.write(1, "")
    assert table.read()[1] == (1, os.getpid(), "", 0.0)
    table.clear()
    assert table.read()[1].pid == 0


def test_the_end_of_a_long_path_is_kept():
    table = ReadingTable(2)
    table.write(0, "x" * 5000 + "/last.jpg")
    table.write(1, "second.jpg")
    first, second = table.read()
    assert first.file.endswith("x/last.jpg") and len(first.file) > 900 and second.file == "second.jpg"


def test_a_name_that_is_no_text_is_still_shown():
    table = ReadingTable(1)
    table.write(0, b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    assert table.read()[0].file.startswith("caf") and table.read()[0].file.endswith(".jpg")


def test_short_waits_are_silent(caplog):
    table = ReadingTable(1)
    table.write(0, "slow.jpg")
    wait_for(58, table)
    assert not caplog.records


def test_warnings_come_at_doubling_intervals_and_name_worker_and_file(caplog):
    table = ReadingTable(2)
    table.write(1, "/data/slow.jpg")
    with caplog.at_level(logging.WARNING, "yolograph"):
        wait_for(598, table)
    told = messages(caplog)
    assert [int(text.split(" s;")[0].rsplit(" ", 1)[1]) for text in told] == [60, 120, 240, 480]
    assert all(f"data worker 1 (pid {os.getpid()}): busy with /data/slow.jpg for 0 s" in text for text in told)


def test_the_run_ends_after_ten_minutes_and_names_the_file():
    table = ReadingTable(2)
    table.write(0, "/data/slow.jpg")
    with pytest.raises(RunError, match=r"for 600 s; data worker 0 .*/data/slow\.jpg .*check that this file"):
        wait_for(700, table)
    with pytest.raises(RunError, match="no data worker is reading; try --workers 0"):
        wait_for(700, ReadingTable(2))


def test_a_stretch_in_which_the_process_stood_still_does_not_count(caplog):
    wait_for(5000, ReadingTable(1), step=400.0)
    assert not caplog.records


class HangingDataset(FakeDataset):
    """One picture takes very long to read."""

    def load(self, index: int, long_side: int | None = None):
        if index == 5:
            time.sleep(600)
        return super().load(index, long_side)


def test_a_worker_that_hangs_is_named_and_ends_the_run(monkeypatch, caplog):
    for name, seconds in (("POLL_SECONDS", 0.1), ("HANG_SECONDS", 0.4), ("GIVE_UP_SECONDS", 1.0)):
        monkeypatch.setattr(watchdog, name, seconds)
    others = set(multiprocessing.active_children())
    loader = train_loader(2, HangingDataset(), DetectionTrainTransform({}, 64), batch_size=2)
    with caplog.at_level(logging.WARNING, "yolograph"), pytest.raises(RunError, match=r"busy with 5\.png for 1 s"):
        list(loader.batches(0))
    assert any("data worker" in text and "5.png" in text for text in messages(caplog))
    assert set(multiprocessing.active_children()) <= others
