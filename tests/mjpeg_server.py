"""A camera on this machine: pictures over HTTP, one after the other, and connections that break when a test wants."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from tests.local_camera import LocalCamera

_BOUNDARY = "frame"


@dataclass
class MjpegCamera(LocalCamera):
    """Serves flat frames whose red channel counts them, as a multipart stream of JPEG.

    Args:
        rate: frames per second.
        frames: of a connection before it breaks; None for no end.
        size: (height, width).
        files: bytes to serve under further paths.

    Attributes:
        connections: how many were made so far.
        refusing: whether new connections are turned away, and running ones break.
        silent: whether connections stay but nothing comes.
    """

    rate: float = 50.0
    frames: int | None = None
    size: tuple[int, int] = (48, 64)
    files: dict[str, bytes] = field(default_factory=dict)
    connections: int = 0
    refusing: bool = False
    silent: bool = False

    @property
    def address(self) -> str:
        """URL of the stream."""
        return f"http://127.0.0.1:{self.port}/live"

    def __enter__(self) -> MjpegCamera:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._serve(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        return self

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.connections += 1
        file = self.files.get(request.path)
        if self.refusing or (file is None and request.path != "/live"):
            request.send_error(503 if self.refusing else 404)
            return
        request.send_response(200)
        if file is not None:
            request.send_header("Content-Length", str(len(file)))
            request.end_headers()
            request.wfile.write(file)
            return
        request.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={_BOUNDARY}")
        request.end_headers()
        sent = 0
        try:
            while not self.refusing and not self._over.is_set() and sent != self.frames:
                if not self.silent:
                    request.wfile.write(self._part(sent))
                    sent += 1
                self._over.wait(1 / self.rate)
        except OSError:
            # Whoever watched has gone.
            pass

    def _part(self, number: int) -> bytes:
        picture = np.full((*self.size, 3), (30, 40, 10 * (number % 24) + 10), np.uint8)
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode() + data + b"\r\n"


def wait_until(condition, seconds: float = 20.0) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not after {seconds:g} s")
        time.sleep(0.005)
