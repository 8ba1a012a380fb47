"""TCP ports of the host that lead to a machine of the lab."""

from __future__ import annotations

import contextlib
import socket
import threading

from . import net

PIECE = 1 << 16


class Forward:
    """Listens on the host's `address`:`port` and carries each connection to `target` inside the lab's namespace."""

    def __init__(self, namespace: str, address: str, port: int, target: tuple[str, int]) -> None:
        self.namespace = namespace
        self.target = target
        self.listener = net.listen(None, address, port)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those under way go on."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = net.connect(self.namespace, *self.target)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        near.close()
        far.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
