"""Memory of ``detect.py`` while it watches a stream for long: ``python -m benchmarks.stream_memory --weights WEIGHTS``.

A camera of this process serves pictures over HTTP and breaks the connection now and then. ``detect.py`` watches it in a
process of its own, whose resident memory is written down until the time is over and Ctrl-C ends it. The first fifth of
the readings is left out, because libraries fill their caches then; of the rest, the median of the first quarter is held
against that of the last. The result must be complete: exit code 130, and a video of as many frames as are told.

What follows ``--`` goes to ``detect.py``, such as ``-- --track --save-csv``. It runs where Linux tells of processes.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mjpeg_server import MjpegCamera, wait_until
from utils.errors import RunError, UsageError, run_command
from utils.files import atomic_write
from utils.video import VideoReader

REPO = Path(__file__).resolve().parents[1]
INTERRUPTED = 130
_START_SECONDS, _END_SECONDS = 300, 120


@dataclass(frozen=True)
class Growth:
    """What has become of the memory of a process.

    Attributes:
        first: MiB in the beginning, without its first fifth.
        last: MiB at the end.
        hours: between these two.
    """

    first: float
    last: float
    hours: float

    @classmethod
    def of(cls, levels: Sequence[float], seconds: float) -> Growth:
        """Return the growth of readings in MiB, at least 10, that are so many seconds apart."""
        settled = levels[len(levels) // 5 :]
        quarter = len(settled) // 4
        first, last = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
        return cls(first, last, (len(settled) - quarter) * seconds / 3600)

    def __str__(self) -> str:
        """Words for people."""
        more = self.last - self.first
        return f"{self.first:.1f} MiB at first, {self.last:.1f} MiB at the end: {more / self.hours:+.1f} MiB per hour"


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a value is out of its range, or the system does not tell of processes.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own, more = arguments, []
    if "--" in arguments:
        own, more = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    parser = argparse.ArgumentParser(prog="benchmarks.stream_memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", required=True, help="of the model")
    parser.add_argument("--img-size", type=int, default=320, help="of detect.py (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="to watch (default %(default)s)")
    parser.add_argument("--rate", type=float, default=25.0, help="frames per second (default %(default)s)")
    parser.add_argument(
        "--connection", type=int, default=1500, metavar="FRAMES", help="before it breaks (default %(default)s)"
    )
    parser.add_argument("--readings", type=int, default=240, help="of the memory (default %(default)s)")
    parser.add_argument(
        "--most", type=float, default=16.0, metavar="MIB", help="growth to fail at (default %(default)s)"
    )
    parser.add_argument("--json", help="write the readings to this file")
    options = parser.parse_args(own)
    for name, least in (("minutes", 0.01), ("rate", 0.1), ("connection", 1), ("readings", 10)):
        if not getattr(options, name) >= least:
            raise UsageError(f"--{name} must be {least} or more, but is {getattr(options, name)}")
    if not Path("/proc/self/status").exists():
        raise UsageError("this system has no /proc, which tells how much memory a process has; run it on Linux")
    options.more = more
    return options


def resident(pid: int) -> float:
    """Return the resident memory of a process, MiB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def watched(process: subprocess.Popen, seconds: float, readings: int) -> list[float]:
    """Return the memory of a process, MiB, at equal distances of time.

    Raises:
        RunError: it has ended before.
    """
    started, levels = time.monotonic(), []
    for i in range(readings):
        time.sleep(max(started + (i + 1) * seconds / readings - time.monotonic(), 0))
        if process.poll() is not None:
            raise RunError(f"the command ended by itself, with exit code {process.returncode}; see what it says above")
        levels.append(resident(process.pid))
    return levels


def watch_stream(options: argparse.Namespace, folder: Path) -> tuple[list[float], str, int]:
    """Let ``detect.py`` watch the camera; return the readings in MiB, what the command said, and its exit code.

    Raises:
        RunError: it has failed.
    """
    log = folder / "log.txt"
    with (
        MjpegCamera(rate=options.rate, frames=options.connection, size=(360, 640)) as camera,
        log.open("w") as output,
    ):
        command = [sys.executable, "detect.py", "--weights", options.weights, "--img-size", str(options.img_size)]
        command += ["--source", camera.address, "--project", str(folder), "--name", "watched", *options.more]
        process = subprocess.Popen(command, cwd=REPO, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: camera.connections > 0 or process.poll() is not None, _START_SECONDS)
            levels = watched(process, 60 * options.minutes, options.readings)
            # It does what Ctrl-C does, which programs in the background of a script do not hear.
            process.send_signal(signal.SIGTERM)
            code = process.wait(_END_SECONDS)
        except RunError:
            print(log.read_text(), file=sys.stderr)
            raise
        finally:
            process.kill()
            process.wait()
    return levels, log.read_text(), code


def require_result(said: str, code: int, folder: Path) -> str:
    """Return what the command said of the stream.

    Raises:
        RunError: it did not end as a run that Ctrl-C ends, or its video is not whole.
    """
    told = re.search(r"1 stream of (\d+) frames? done", said)
    if code != INTERRUPTED or told is None:
        raise RunError(f"the command did not end as one that Ctrl-C ends, but with exit code {code}:\n{said}")
    for path in (folder / "watched").glob("*.mp4"):
        with VideoReader(path) as video:
            read = sum(1 for _ in video)
        if read != int(told[1]):
            raise RunError(f"{path.name} has {read} frames, but {told[1]} were told")
    return next(line for line in said.splitlines() if line.endswith(" taken"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``arguments`` stand in for the command line."""
    options = parse_options(arguments)
    with tempfile.TemporaryDirectory() as name:
        levels, said, code = watch_stream(options, Path(name))
        line = require_result(said, code, Path(name))
    growth = Growth.of(levels, 60 * options.minutes / len(levels))
    print(line)
    print(f"{options.minutes:g} minutes: {growth}")
    if options.json:
        atomic_write(Path(options.json), json.dumps({"minutes": options.minutes, "mebibytes": levels}).encode())
    if growth.last - growth.first > options.most:
        raise RunError(f"the memory has grown by more than {options.most:g} MiB")


if __name__ == "__main__":
    run_command(main)
