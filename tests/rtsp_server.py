"""A camera that speaks RTSP on this machine: a transport stream in RTP packets over the connection itself."""

from __future__ import annotations

import socketserver
import struct
from pathlib import Path

import cv2
import numpy as np

from tests.local_camera import LocalCamera
from utils.opencv_messages import quiet_opencv

_PACKET = 7 * 188
_CLOCK = 90000


def transport_stream(path: Path, frames: int, rate: float = 25.0, size: tuple[int, int] = (64, 96)) -> bytes:
    """Return flat frames, whose red grows by 8, as an MPEG transport stream.

    Args:
        path: of a file to write it to.
        frames: how many.
        rate: per second.
        size: (height, width).
    """
    # The encoder takes this codec under a name that is not its own.
    with quiet_opencv():
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MPG2"), rate, size[::-1])
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((*size, 3), (30, 40, 8 * number % 256), np.uint8))
    writer.release()
    return path.read_bytes()


class RtspCamera(LocalCamera):
    """Plays a transport stream to whoever asks, then drops the connection.

    Args:
        stream: bytes of the transport stream.
        seconds: that playing it takes.

    Attributes:
        plays: how often it was asked to play so far.
    """

    def __init__(self, stream: bytes, seconds: float) -> None:
        self.stream, self.seconds = stream, seconds
        self.plays = 0

    @property
    def address(self) -> str:
        """URL of the stream."""
        return f"rtsp://127.0.0.1:{self.port}/door"

    def __enter__(self) -> RtspCamera:
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                camera._talk(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._serve(Server(("127.0.0.1", 0), Handler))
        return self

    def _talk(self, connection: socketserver.StreamRequestHandler) -> None:
        """Answer requests until one asks to play."""
        while line := connection.rfile.readline():
            method = line.split()[0].decode()
            number = "0"
            while header := connection.rfile.readline().strip():
                name, _, value = header.decode().partition(":")
                number = value.strip() if name.lower() == "cseq" else number
            more, body = self._answer(method)
            if body:
                more += [f"Content-Length: {len(body)}"]
            lines = ["RTSP/1.0 200 OK", f"CSeq: {number}", "Session: 1", *more, "", body]
            connection.wfile.write("\r\n".join(lines).encode())
            if method == "PLAY":
                self.plays += 1
                self._play(connection)
                return

    def _answer(self, method: str) -> tuple[list[str], str]:
        if method == "OPTIONS":
            return ["Public: OPTIONS, DESCRIBE, SETUP, PLAY"], ""
        if method == "DESCRIBE":
            lines = [
                "v=0",
                "o=- 0 0 IN IP4 127.0.0.1",
                "s=door",
                "t=0 0",
                "m=video 0 RTP/AVP 33",
                "a=control:video",
                "",
            ]
            return [f"Content-Base: {self.address}/", "Content-Type: application/sdp"], "\r\n".join(lines)
        if method == "SETUP":
            return ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1"], ""
        return [], ""

    def _play(self, connection: socketserver.StreamRequestHandler) -> None:
        parts = [self.stream[i : i + _PACKET] for i in range(0, len(self.stream), _PACKET)]
        pause = self.seconds / len(parts)
        try:
            for i, part in enumerate(parts):
                head = struct.pack(">BBHII", 0x80, 33, i % 65536, int(i * pause * _CLOCK), 1)
                connection.wfile.write(b"$\0" + struct.pack(">H", len(head) + len(part)) + head + part)
                if self._over.wait(pause):
                    return
        except OSError:
            # Whoever watched has gone.
            pass
