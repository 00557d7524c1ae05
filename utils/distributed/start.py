"""The beginning and the end of a run of several processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from utils.distributed.failure import FailureNote, one_voice, told_when_broken
from utils.distributed.meeting import Meeting, is_later_start, meet
from utils.distributed.place import Place, own_device, read_place
from utils.distributed.world import Links, World
from utils.errors import UsageError

TIMEOUT = timedelta(hours=1)
"""How long one process may keep the others waiting: longer than any validation. One that dies is noticed at once."""

LOGGER = logging.getLogger("yolograph")


@contextmanager
def start_world(device: str = "") -> Iterator[World]:
    """Join the processes that torchrun started, for as long as the context lasts.

    A failure of one process, whatever it is, ends all of them at once: the first that fails raises its error, the
    others ``SystemExit`` with the same exit code and no word. Processes other than the first log errors only.

    Args:
        device: ``--device``: empty, ``cpu``, a GPU's number, or for several processes the numbers of several GPUs.

    Raises:
        UsageError: torchrun's variables do not fit together, the port is taken, or there is no such device.
        RunError: the processes do not reach each other.
    """
    place = read_place()
    if place.size == 1:
        yield World(device=own_device(device, place), is_restarted=place.restarts > 0)
        return
    if not dist.is_available():
        raise UsageError("this PyTorch was built without torch.distributed; install another one, or leave torchrun out")
    # The device is chosen after the meeting, so that of all processes that cannot have theirs only one complains.
    with _quiet(place.rank > 0):
        meeting = meet(place, {"restarts": place.restarts})
        note = FailureNote(meeting.store, place.rank)
        with one_voice(note):
            world = _join(place, meeting, note, own_device(device, place))
            yield world
            world.barrier()
            dist.destroy_process_group()


def _join(place: Place, meeting: Meeting, note: FailureNote, device: torch.device) -> World:
    """Make the process groups and return this process's world."""
    meeting.store.set(f"device/{place.rank}", device.type)
    others = {meeting.store.get(f"device/{rank}").decode() for rank in range(place.size)}
    if len(others) > 1:
        raise UsageError(
            f"some processes of this run would compute on {' and others on '.join(sorted(others))}; give --device cpu, "
            "or start processes only on machines with GPUs"
        )
    with told_when_broken():
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group(
                "nccl",
                store=meeting.store,
                rank=place.rank,
                world_size=place.size,
                timeout=TIMEOUT,
                device_id=device,
            )
            values = dist.new_group(backend="gloo", timeout=TIMEOUT)
        else:
            dist.init_process_group(
                "gloo", store=meeting.store, rank=place.rank, world_size=place.size, timeout=TIMEOUT
            )
            values = dist.group.WORLD
    links = Links(meeting, note, values, place.machine)
    world = World(place.rank, place.size, place.local_rank, device, links=links)
    later = is_later_start(meeting.job, place.rank) or any(facts["restarts"] for facts in meeting.facts)
    world.is_restarted = world.broadcast_object(later)
    return world


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    before = LOGGER.level
    if quiet:
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(before)
