"""How processes find each other: a store that all can reach, and a name for this start of the run.

torchrun keeps one store for all starts of a job, so what an earlier start left there is still there after a restart:
addresses of dead processes, notes of old failures. The processes therefore agree on a new name for every start, and
keep to keys below it. torchrun's count of restarts will not do as a name: after a node was replaced it differs between
machines.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from utils.distributed.place import Place
from utils.errors import RunError, UsageError

JOIN_TIMEOUT = timedelta(minutes=5)
POLL_SECONDS = 0.01
KEEPSAKES = "yolograph"
_PROCESS = secrets.token_hex(8)


@dataclass(frozen=True)
class Meeting:
    """Where the processes of one start of a run exchange what they need to find each other.

    Attributes:
        store: of this start alone.
        job: of the whole job, over all its starts, as long as the machine that hosts it lives.
        facts: what every process said of itself, by rank.
    """

    store: dist.Store
    job: dist.Store
    facts: list[dict[str, Any]]


def meet(place: Place, about: dict[str, Any]) -> Meeting:
    """Join the other processes of a run.

    Args:
        place: of this process.
        about: plain values that this process says of itself.

    Raises:
        UsageError: the port is taken.
        RunError: the other processes cannot be reached, or did not all come in time.
    """
    common = _common_store(place)
    deadline = time.monotonic() + JOIN_TIMEOUT.total_seconds()
    try:
        if place.rank == 0:
            name = secrets.token_hex(8)
            store = dist.PrefixStore(f"start/{name}", common)
            facts = [about, *_welcome(common, store, name, place.size, deadline)]
            store.set("facts", json.dumps(facts))
        else:
            # The answer comes under a word that no earlier process has used.
            word = secrets.token_hex(8)
            common.set(f"hello/{place.rank}", word)
            name = common.get(f"welcome/{word}").decode()
            store = dist.PrefixStore(f"start/{name}", common)
            store.set(f"here/{place.rank}", json.dumps(about))
            facts = json.loads(store.get("facts"))
    except RuntimeError as error:
        raise RunError(f"{_where(place)}: the {place.size} processes of this run could not meet ({error})") from None
    return Meeting(store, dist.PrefixStore(KEEPSAKES, common), facts)


def _common_store(place: Place) -> dist.Store:
    # Imported here, because builds of PyTorch without torch.distributed do not have it.
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://", timeout=JOIN_TIMEOUT))
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error) or "address already in use" in str(error).lower():
            raise UsageError(
                f"port {place.address[1]} of this machine is taken; give torchrun another --master-port, "
                "or --standalone"
            ) from None
        raise _unreachable(place) from None
    except RuntimeError:
        raise _unreachable(place) from None
    return store


def _welcome(common: dist.Store, store: dist.Store, name: str, size: int, deadline: float) -> list[dict[str, Any]]:
    """Tell every process that says hello the name of this start; return what they say of themselves."""
    found: dict[int, dict[str, Any]] = {}
    while len(found) < size - 1:
        for rank in range(1, size):
            if rank in found:
                continue
            if common.check([f"hello/{rank}"]):
                # Perhaps of a process that is long dead; then the living one will write over it.
                common.set(f"welcome/{common.get(f'hello/{rank}').decode()}", name)
            if store.check([f"here/{rank}"]):
                found[rank] = json.loads(store.get(f"here/{rank}"))
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(found) + 1} came within {JOIN_TIMEOUT.seconds // 60} minutes")
        time.sleep(POLL_SECONDS)
    return [found[rank] for rank in range(1, size)]


def is_later_start(job: dist.Store, rank: int) -> bool:
    """Return whether processes of an earlier start of this job have met; called once by every process."""
    if rank > 0:
        return False
    first = job.compare_set("first_process", "", _PROCESS).decode()
    return first != _PROCESS


def _where(place: Place) -> str:
    return f"{place.address[0]}:{place.address[1]}"


def _unreachable(place: Place) -> RunError:
    return RunError(
        f"{_where(place)}: process 0 of this run does not answer there; check torchrun's --rdzv-endpoint or "
        "--master-addr, and that no firewall is between the machines"
    )
