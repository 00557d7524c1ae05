"""Which process of a run this one is, and the device it takes: read from the variables that torchrun sets."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from utils.devices import select_device
from utils.errors import UsageError

ALWAYS_SET = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SET_FOR_SEVERAL = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """This process among all processes of a run.

    Attributes:
        rank: number of this process, 0 ... size - 1.
        size: processes on all machines.
        local_rank: number of this process on its machine.
        local_size: processes on this machine.
        machine: number of this machine.
        address: where the processes meet, host and port.
        restarts: how often torchrun has started the processes of this machine again.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    machine: int = 0
    address: tuple[str, int] = ("", 0)
    restarts: int = 0


def read_place() -> Place:
    """Return the place that the environment gives this process; a process that torchrun did not start is alone.

    Raises:
        UsageError: some of torchrun's variables are missing, or are no numbers that fit together.
    """
    if not any(name in os.environ for name in ALWAYS_SET):
        return Place()
    rank, size, local_rank = (_number(name) for name in ALWAYS_SET)
    restarts = _number("TORCHELASTIC_RESTART_COUNT", 0)
    if size == 1:
        return Place(restarts=restarts)
    local_size = _number("LOCAL_WORLD_SIZE", size)
    if not (rank < size and local_rank < local_size <= size):
        raise UsageError(
            f"the variables RANK={rank}, WORLD_SIZE={size}, LOCAL_RANK={local_rank}, LOCAL_WORLD_SIZE={local_size} do "
            f"not fit together; {_mend()}"
        )
    missing = [name for name in SET_FOR_SEVERAL if not os.environ.get(name)]
    if missing:
        raise UsageError(f"WORLD_SIZE is {size} but {missing[0]} is not set; {_mend()}")
    address = (os.environ["MASTER_ADDR"], _number("MASTER_PORT"))
    if not 0 < address[1] < 2**16:
        raise UsageError(f"MASTER_PORT={address[1]} is no port, which is a number from 1 to 65535; {_mend()}")
    machine = _number("GROUP_RANK", rank // local_size)
    return Place(rank, size, local_rank, local_size, machine, address, restarts)


def own_device(wanted: str, place: Place) -> torch.device:
    """Return the device of this process: with GPUs the one of its local rank, else the CPU.

    Args:
        wanted: ``--device``: empty for all GPUs or else the CPU, ``cpu``, or GPU numbers such as ``0,1,3``.
        place: of this process.

    Raises:
        UsageError: there are fewer GPUs than processes on this machine, or one does not exist.
    """
    text = wanted.strip().lower()
    if place.size == 1 or text == "cpu":
        return select_device(wanted)
    if text == "mps":
        raise UsageError(
            "--device mps: Apple GPUs do not train with several processes; start train.py without torchrun"
        )
    if text == "" and not torch.cuda.is_available():
        return torch.device("cpu")
    numbers = [part.strip() for part in text.split(",")] if text else [str(i) for i in range(torch.cuda.device_count())]
    if len(numbers) < place.local_size:
        raise UsageError(
            f"{f'--device {wanted} names' if text else 'this machine has'} {len(numbers)} GPU(s) but torchrun started "
            f"{place.local_size} processes here; give --nproc_per_node {len(numbers)}, or --device cpu"
        )
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--device {wanted} names a GPU twice; every process needs its own")
    return select_device(numbers[place.local_rank])


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        given = ", ".join(f"{n}={os.environ[n]}" for n in ALWAYS_SET if n in os.environ)
        raise UsageError(f"the variable {name} is not set, but {given} is; {_mend()}")
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"the variable {name} is '{text}', which is no whole number; {_mend()}")
    return int(text)


def _mend() -> str:
    return "start several processes with torchrun, or unset what is left of it for one"
