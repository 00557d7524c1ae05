"""Webcams and network streams: whatever is there now is looked at together, and each becomes a video of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from tqdm import tqdm

from data.frame import Frame
from utils.detecting.films import Film
from utils.detecting.run import Run
from utils.streams.live_options import LiveOptions
from utils.streams.live_readers import LiveReaders
from utils.streams.live_source import LiveSource
from utils.video import VideoWriter

LOGGER = logging.getLogger("yolograph")


def detect_live(run: Run, sources: Sequence[LiveSource], options: LiveOptions) -> None:
    """Run the model over live sources until all have ended or the user interrupts it.

    Every source becomes a video at the rate that it names; one whose pictures change their size goes on in another.

    Raises:
        DataError: no source has given a frame.
        OSError: the disk is full, or the folder cannot be written to.
    """
    readers = LiveReaders(sources, options)
    films: dict[str, list[Film]] = {source.name: [] for source in sources}
    follower = run.follower(lambda frame: readers.readers[frame.source].rate / run.stride)
    with (
        ExitStack() as videos,
        tqdm(desc="live", unit="frame", leave=False, dynamic_ncols=True, disable=None) as bar,
        run.until_interrupted(),
        run.outlet(Film.write) as outlet,
        run.looks(_batches(run, readers), follower) as looks,
        # Left first: whoever waits for a frame is told that none will come.
        readers,
    ):
        for look in looks:
            film = _film_for(run, look.frame, films[look.frame.source], readers, videos)
            film.follower = follower
            film.add(look, outlet)
            bar.update()
            bar.set_postfix_str(_losses(readers), refresh=False)
    _report(run, sources, films, readers)


def _batches(run: Run, readers: LiveReaders) -> Iterator[list[Frame]]:
    """Yield frames that can share a pass: what is there now, of a source one at most."""
    taken: Counter[str] = Counter()
    for frames in readers.batches(run.batch_size):
        wanted = [frame for frame in frames if run.most_frames is None or taken[frame.source] < run.most_frames]
        taken.update(frame.source for frame in wanted)
        for frame in wanted:
            if taken[frame.source] == run.most_frames:
                readers.readers[frame.source].stop()
        yield from run.batches(sorted(wanted, key=lambda frame: run.predictor.input_shapes(frame.image)))


def _film_for(run: Run, frame: Frame, films: list[Film], readers: LiveReaders, videos: ExitStack) -> Film:
    """Return the film that a frame belongs to, which begins with the first of its size."""
    size = frame.image.shape[:2]
    if not films or films[-1].size != size:
        rate = readers.readers[frame.source].rate / run.stride
        writer = videos.enter_context(VideoWriter(run.files.name_for_stream(frame.source), rate))
        films.append(Film(run, frame.source, writer, size, before=films[-1] if films else None))
    return films[-1]


def _losses(readers: LiveReaders) -> str:
    """Return what was lost so far of all sources: ``12 dropped, 3 stale, 1 reconnect``."""
    counts = [reader.counts for reader in readers.readers.values()]
    totals = {
        "dropped": sum(count.dropped for count in counts),
        "stale": sum(count.stale for count in counts),
        "reconnects": sum(count.reconnects for count in counts),
    }
    return ", ".join(f"{total} {what}" for what, total in totals.items() if total)


def _report(run: Run, sources: Sequence[LiveSource], films: dict[str, list[Film]], readers: LiveReaders) -> None:
    """Say what has come of every source."""
    for number, source in enumerate(sources, 1):
        own, reader = films[source.name], readers.readers[source.name]
        if own:
            run.streams += 1
            run.frames += sum(film.frames for film in own)
            if source.name in readers.failures:
                run.cut_short.append(source.name)
        elif source.name in readers.failures:
            run.failures.append(source.name)
        title = f"stream {number}/{len(sources)} {source.name}"
        for film in own:
            LOGGER.info("%s: %s", title, film)
        LOGGER.info("%s: %s taken", title, reader.counts)
