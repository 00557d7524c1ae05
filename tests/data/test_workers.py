"""Worker processes under attack: killed, signalled, orphaned."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data import watchdog
from data.samples import Sample
from data.transforms.detection import DetectionTrainTransform
from tests.data.fake_dataset import FakeDataset, contents, train_loader
from utils.errors import RunError

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="looks at processes through /proc")


def lives(pid: int) -> bool:
    """Return whether a process is there and not merely waiting to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "POLL_SECONDS", 0.3)


class DyingDataset(FakeDataset):
    """Reading picture 7 ends the worker by a signal, as often as there are files in a folder."""

    def __init__(self, folder: Path, lives: int, count: int = 40):
        super().__init__(count)
        self.folder = folder
        for number in range(lives):
            (folder / str(number)).touch()

    def load(self, index: int, long_side: int | None = None) -> Sample:
        if index == 7 and multiprocessing.parent_process() is not None:
            for file in self.folder.iterdir():
                file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().load(index, long_side)


def workers_of(batches: list) -> set[int]:
    return {int(name) for batch in batches for name in batch.ids}


def note_process(dataset, key, rng) -> Sample:
    return Sample(image=np.zeros((8, 8, 3), np.uint8), id=str(os.getpid()))


def test_a_killed_worker_is_named_replaced_and_the_content_stays(tmp_path, caplog):
    # Without mosaics, so that one worker alone meets the picture.
    single = DetectionTrainTransform({}, 64)
    expected = contents(itertools.islice(train_loader(0, FakeDataset(40), transform=single).stream(3), 25))
    loader = train_loader(2, DyingDataset(tmp_path, lives=2), transform=single)
    with caplog.at_level(logging.WARNING, "yolograph"):
        assert contents(itertools.islice(loader.stream(3), 25)) == expected
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and not list(tmp_path.iterdir())
    for number, text in enumerate(told, 1):
        assert "was ended by SIGKILL while reading 7.png, most likely for want of memory" in text
        assert "data worker " in text and "(pid " in text and f"replacement {number} of at most 3" in text


def test_a_worker_killed_while_it_rests_changes_nothing_either(caplog):
    expected = contents(itertools.islice(train_loader(0).stream(), 30))
    others = set(multiprocessing.active_children())
    loader = train_loader(2)
    stream = loader.stream()
    found = contents(itertools.islice(stream, 4))
    time.sleep(0.3)
    victim = (set(multiprocessing.active_children()) - others).pop()
    os.kill(victim.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while lives(victim.pid) and time.monotonic() < deadline:
        time.sleep(0.01)  # the main process computes meanwhile, and no exception may come up in the middle of that
    with caplog.at_level(logging.WARNING, "yolograph"):
        found += contents(itertools.islice(stream, 26))
    assert found == expected
    assert [f"pid {victim.pid})" in record.getMessage() for record in caplog.records] == [True]


def test_a_worker_killed_between_two_passes_is_named_and_replaced(caplog):
    others = set(multiprocessing.active_children())
    loader, alone = train_loader(2), train_loader(0)
    assert contents(loader.batches(0)) == contents(alone.batches(0))
    victim = (set(multiprocessing.active_children()) - others).pop()
    os.kill(victim.pid, signal.SIGKILL)
    with caplog.at_level(logging.WARNING, "yolograph"):
        assert contents(loader.batches(1)) == contents(alone.batches(1))
    assert [f"(pid {victim.pid}) was ended by SIGKILL" in record.getMessage() for record in caplog.records] == [True]


def test_too_many_losses_end_the_run_in_one_sentence(tmp_path):
    others = set(multiprocessing.active_children())
    loader = train_loader(1, DyingDataset(tmp_path, lives=9))
    with pytest.raises(RunError, match=r"ended 4 times, now data worker 0 .*SIGKILL while reading 7\.png.*--workers"):
        list(loader.batches(0))
    assert set(multiprocessing.active_children()) <= others and len(list(tmp_path.iterdir())) == 5


def test_workers_stay_when_the_group_is_asked_to_end():
    loader = train_loader(2, transform=note_process, dataset=FakeDataset(200))
    stream = loader.stream()
    before = workers_of(list(itertools.islice(stream, 4)))
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert workers_of(list(itertools.islice(stream, 20))) == before
    loader.close()
    assert not any(map(lives, before))


def test_an_abandoned_iterator_refuses_to_go_on():
    loader = train_loader(2)
    old = loader.stream()
    next(old)
    expected = contents(train_loader().batches(1))
    assert contents(loader.batches(1)) == expected
    with pytest.raises(RuntimeError, match="another iteration"):
        next(old)


SCRIPT = """
import multiprocessing, sys, time
from tests.data.fake_dataset import FakeDataset, train_loader
how = sys.argv[1]
class Slow(FakeDataset):
    def load(self, index, long_side=None):
        if "hang" in how:
            time.sleep(600)
        return super().load(index, long_side)
loader = train_loader(2, Slow(50))
stream = loader.stream()
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
if how == "work":
    for batch in stream:
        pass
if how == "hang":
    next(stream)
if "fail" in how:
    1 / 0
"""


def start(how: str) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process, [int(text) for text in process.stdout.readline().split()]


@pytest.mark.parametrize("how", ["work", "hang"])
def test_no_worker_outlives_a_killed_parent(how):
    process, workers = start(how)
    time.sleep(0.5)
    assert len(workers) == 2 and all(map(lives, workers))
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 6
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(lives, workers))


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("fail and hang", 1)])
def test_a_program_ends_with_its_workers(how, code):
    process, workers = start(how)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == code and len(workers) == 2 and not any(map(lives, workers))
    assert errors == "" if code == 0 else "ZeroDivisionError" in errors
    assert "multiprocessing" not in errors


def test_memory_does_not_grow_over_hundreds_of_batches():
    others = set(multiprocessing.active_children())
    loader = train_loader(2, FakeDataset(500), DetectionTrainTransform({}, 64), batch_size=2)
    stream = loader.stream()

    def resident() -> float:
        pids = [os.getpid(), *(child.pid for child in set(multiprocessing.active_children()) - others)]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    for _ in itertools.islice(stream, 60):
        pass
    before = resident()
    for _ in itertools.islice(stream, 240):
        pass
    assert resident() - before < 10


def test_closing_does_not_wait_for_what_a_killed_worker_holds():
    loader = train_loader(2)
    stream = loader.stream()
    next(stream)
    # DataLoader sets this event when it is let go; a worker that was killed at the wrong moment still has its lock.
    event = loader._pool._loader._iterator._workers_done_event
    event._cond.acquire()
    held = [stream, loader]
    del stream, loader

    def close() -> None:
        held[1].close()
        held.clear()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
