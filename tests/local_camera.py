"""A server of this process that plays a camera for as long as a ``with`` block lasts."""

from __future__ import annotations

import socketserver
import threading


class LocalCamera:
    """What cameras of all protocols share: a server in a thread of its own, on any free port of this machine."""

    _server: socketserver.TCPServer

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self._server.server_address[1]

    def _serve(self, server: socketserver.TCPServer) -> None:
        """Answer whoever asks, until the block ends; ``_over`` tells those who answer that it has."""
        self._over = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
