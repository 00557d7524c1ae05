"""Worker processes that make batches: started once, watched, replaced when the system ends one, ended with the run."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from data import watchdog
from data.deliveries import BatchMaker, Delivery
from data.watchdog import Reading, ReadingTable, Wait
from utils.errors import RunError

WORKER_NICENESS = 10
MOST_LOSSES = 3
"""How often in a run workers that the system ended are replaced."""
_MENDS = {
    signal.SIGKILL: "most likely for want of memory: use fewer --workers, a smaller --batch-size or --cache none",
    signal.SIGBUS: "most likely because the shared memory /dev/shm is full: enlarge it or use fewer --workers",
}
_OTHER_MEND = "check that the file can be read, and use fewer --workers"
_TROUBLE = (RuntimeError, OSError, EOFError)
"""What DataLoader raises when a worker is late or gone; a failure inside a worker may be one of these too."""
_log = logging.getLogger("yolograph")
_living: set[BaseProcess] = set()


@dataclass(frozen=True)
class Lost:
    """Workers have ended on their own. A value and not an exception, whose traceback would keep the iterator alive.

    Attributes:
        message: which, how, at which file, and what to do.
    """

    message: str


class WorkerPool:
    """Deliveries in the order of their keys, made by processes that live on from one ``run`` to the next.

    Args:
        maker: makes a delivery of a key; must be a pure function of the key.
        workers: processes, at most one per core; 0 works in the main process.
    """

    def __init__(self, maker: BatchMaker, workers: int):
        self._maker = maker
        self._workers = min(workers, _cores())
        self._feed = _Feed()
        self._readings = ReadingTable(self._workers) if self._workers else None
        self._maker.readings = self._readings
        self._loader: DataLoader | None = None
        self._processes: list[BaseProcess] = []
        self._losses = 0
        self._turn = 0
        self._owner = os.getpid()

    def __del__(self) -> None:
        # A forked copy has no processes of its own.
        if os.getpid() == self._owner:
            self.close()

    def run(self, keys_from: Callable[[int], Iterator[Any]], first: int = 0) -> Iterator[Delivery]:
        """Set the workers on a sequence of keys now, and return its deliveries.

        The pool serves one sequence at a time: a new one takes over.

        Args:
            keys_from: returns the keys from a position on; called again when workers have to be replaced.
            first: position to begin at.

        Raises:
            RunError: workers were lost too often, hang, or cannot be started.
        """
        self._turn += 1
        return self._deliver(self._turn, keys_from, first, self._start(keys_from(first)))

    def close(self) -> None:
        """End the workers; the next ``run`` starts new ones."""
        _keep_from_waiting(self._loader)
        self._loader = None
        _end(self._processes)
        self._processes = []

    def _deliver(
        self, turn: int, keys_from: Callable[[int], Iterator[Any]], position: int, source: Iterator[Delivery]
    ) -> Iterator[Delivery]:
        while True:
            if turn != self._turn:
                raise RuntimeError("another iteration of this loader has begun; this one cannot go on")
            outcome = self._next(source)
            if outcome is None:
                return
            if isinstance(outcome, Lost):
                # Dropped first, which lets the other workers end in peace; what they still owe is made again.
                source = None
                self._replace(outcome)
                source = self._start(keys_from(position))
                continue
            position += 1
            yield outcome

    def _start(self, keys: Iterator[Any]) -> Iterator[Delivery]:
        self._feed.keys = keys
        if self._loader is not None:
            try:
                return iter(self._loader)
            except _TROUBLE:
                # They do not answer in time, or one is gone.
                lost = self._lost_workers()
            if lost is None:
                self.close()
            else:
                self._replace(lost)
        self._loader = self._make_loader()
        if not self._workers:
            return iter(self._loader)
        self._readings.clear()
        others = set(multiprocessing.active_children())
        in_main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD) if in_main else None
        try:
            return iter(self._loader)
        except OSError as error:
            raise RunError(f"data workers cannot be started ({error.strerror}); use fewer --workers") from error
        finally:
            self._processes = [child for child in multiprocessing.active_children() if child not in others]
            _living.update(self._processes)
            if handler is not None:
                # DataLoader's own would raise in the middle of whatever the main process does when a worker ends.
                is_torchs = getattr(handler, "__module__", "") == torch.utils.data._utils.signal_handling.__name__
                signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs else handler)

    def _make_loader(self) -> DataLoader:
        return DataLoader(
            self._maker,
            batch_size=None,
            sampler=self._feed,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self._workers > 0,
            # Both decided here: a forked worker may not be able to tell whether there is a GPU, nor, where its parent
            # dies at once, whose child it was. Other start methods put a process of their own in between.
            worker_init_fn=partial(
                _prepare_worker,
                parent=os.getpid() if multiprocessing.get_start_method() == "fork" else None,
                is_polite=not torch.cuda.is_available(),
            ),
            # The end of this time is no failure here: it is when the main process looks after its workers.
            timeout=watchdog.POLL_SECONDS if self._workers else 0,
            # Its own generator: DataLoader draws a number per iteration, which must not move the run's global one.
            generator=torch.Generator(),
        )

    def _next(self, source: Iterator[Delivery]) -> Delivery | Lost | None:
        """Return the next delivery, None at the end, or which workers have ended.

        Raises:
            RunError: the workers hang; they have been ended.
        """
        waiting = None
        while True:
            try:
                return next(source, None)
            except _TROUBLE as error:
                if not self._workers:
                    raise
                if not str(error).startswith("DataLoader timed out"):
                    lost = self._lost_workers()
                    if lost is None:
                        raise
                    return lost
            waiting = waiting or Wait(self._readings)
            try:
                waiting.look()
            except RunError:
                self.close()
                raise

    def _lost_workers(self) -> Lost | None:
        """Return which workers have ended, None if all live."""
        # What a dying worker has sent may fail to arrive a moment before it counts as dead.
        ended = wait([process.sentinel for process in self._processes], timeout=1.0)
        for process in self._processes:
            if process.sentinel in ended:
                # Its files are closed a moment before the system gives its end out.
                process.join(1.0)
        lines = {line.pid: line for line in self._readings.read()}
        found = [(process, lines.get(process.pid)) for process in self._processes if not process.is_alive()]
        return Lost("; ".join(_obituary(process, line) for process, line in found)) if found else None

    def _replace(self, lost: Lost) -> None:
        self.close()
        self._losses += 1
        if self._losses > MOST_LOSSES:
            raise RunError(f"data workers were ended {self._losses} times, now {lost.message}")
        _log.warning(
            "%s; new data workers take over (replacement %d of at most %d)", lost.message, self._losses, MOST_LOSSES
        )


class _Feed(Iterable):
    """A sampler whose keys are set before every iteration."""

    keys: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.keys


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_it_is(delivery: Delivery) -> Delivery:
    return delivery


def _obituary(process: BaseProcess, line: Reading | None) -> str:
    code = process.exitcode or 0
    try:
        how = f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        how = f"ended with exit code {code}"
    number = "" if line is None else f" {line.worker}"
    where = f" while reading {line.file}" if line is not None and line.file else ""
    return f"data worker{number} (pid {process.pid}) {how}{where}, {_MENDS.get(-code, _OTHER_MEND)}"


def _prepare_worker(worker: int, parent: int | None, is_polite: bool) -> None:
    # One thread per worker: the workers are the parallelism, and OpenCV's threads do not survive a fork.
    cv2.setNumThreads(0)
    # Where the model computes on the same cores, its threads wait for each other at every step of the arithmetic: one
    # that a worker pushed aside would hold up all. Workers run ahead in batches and can wait.
    if is_polite and hasattr(os, "nice"):
        os.nice(WORKER_NICENESS)
    # Ctrl-C reaches every process of the terminal, and a batch system's SIGTERM every process of the group; the main
    # process finishes its step with what the workers make, and ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()
    maker = torch.utils.data.get_worker_info().dataset
    if maker.readings is not None:
        maker.readings.write(worker, "")


def _follow_parent(parent: int | None) -> None:
    """End this process within about a second after its parent, even while it hangs in a file."""
    parent = os.getppid() if parent is None else parent
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _keep_from_waiting(loader: DataLoader | None) -> None:
    """Let a DataLoader take its workers for ended.

    It would otherwise set an event that they share, whose lock a worker that was killed may hold for ever; nothing
    public prevents that.
    """
    iterator = getattr(loader, "_iterator", None)
    if iterator is None or iterator._shutdown:
        return
    iterator._shutdown = True
    if iterator._worker_pids_set:
        torch.utils.data._utils.signal_handling._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
    pinning_is_over = getattr(iterator, "_pin_memory_thread_done_event", None)
    if pinning_is_over is not None:
        pinning_is_over.set()


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        # They ignore the signals that end other processes.
        if process.is_alive():
            process.kill()
            process.join()
        _living.discard(process)


@atexit.register
def _end_all() -> None:
    # The interpreter would end them by SIGTERM, which they ignore, and then wait for them.
    _end(list(_living))
