"""TensorBoard: an event file in the run folder; ``tensorboard --logdir runs/train`` shows all runs side by side."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from utils.optional_packages import import_optional

PREFIX = "events.out.tfevents"


class TensorBoardLogger:
    """Writes events in the thread that brings them, and at once.

    The writer that comes with TensorBoard does so in a thread of its own. That thread would be there when worker
    processes are forked, and a full disk would be a traceback out of it.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        import_optional("tensorboard", "--loggers tensorboard")
        self._file: BinaryIO | None = None
        self._records: Any = None
        self._step = 0

    def start(
        self, folder: Path, options: argparse.Namespace, hyp: Mapping[str, Any], epochs_kept: int | None = None
    ) -> None:
        """Open an event file; see ``RunLogger.start``."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        if epochs_kept is None:
            for stale in folder.glob(f"{PREFIX}.*"):
                stale.unlink()
        # TensorBoard reads the files of a folder in the order of their names, which begin with the time.
        self._file = open(folder / f"{PREFIX}.{time.time():017.6f}.{os.getpid()}", "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if epochs_kept is None:
            self._write(summary=_text("options", vars(options)), step=0)
            self._write(summary=_text("recipe", hyp), step=0)
        else:
            # Tells the reader to forget what earlier files hold from this step on.
            self._write(session_log=SessionLog(status=SessionLog.START), step=epochs_kept + 1)
            self._step = epochs_kept

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._step = step
        self._write(summary=Summary(value=[Summary.Value(tag=n, simple_value=v) for n, v in values.items()]), step=step)

    def picture(self, name: str, path: Path) -> None:
        """Write the bytes of a picture as they are."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as picture:
            width, height = picture.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        self._write(summary=Summary(value=[Summary.Value(tag=name, image=image)]), step=self._step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the last words and close the file."""
        self._write(summary=_text("summary", summary), step=self._step)
        assert self._file is not None
        self._file.close()

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._file is not None
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
        # A run may be killed at any time, and people look while it runs.
        self._file.flush()


def _text(tag: str, values: Mapping[str, Any]) -> Any:
    """Return a table of names and values, as TensorBoard's text panel shows it."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    rows = "\n".join(f"| {name} | {str(value).replace('|', '/')} |" for name, value in values.items())
    tensor = TensorProto(dtype=DT_STRING, string_val=[f"| key | value |\n| --- | --- |\n{rows}".encode()])
    tensor.tensor_shape.dim.add(size=1)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
