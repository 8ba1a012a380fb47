"""Addresses that a request names: pictures where the setting `url_inputs` allows it, webhooks where `webhooks` does.

The name is resolved once; every address that it has must be public; the connection goes to an address that was checked, whatever
the name means a moment later. No redirects, no proxies, a bounded number of bytes and seconds. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from danqing.errors import DanqingError

SECONDS = 20.0
"""For the whole of it."""

BYTES = 64 * 2**20
PIECE = 2**16
PORTS = {"http": 80, "https": 443}

AROUND_IPV4 = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Networks whose addresses end with an IPv4 address: compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052)."""

INSIDE = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "fec0::/10", "64:ff9b:1::/48", "5f00::/16")))
"""Networks that not every Python knows to be nobody's outside: protocol assignments, site-local, local NAT64, segment routing."""

Resolver = Callable[[str, int], list[str]]
Public = Callable[[str], bool]


def is_address(text: str) -> bool:
    """Whether a text is an address and no picture."""
    return text[:8].lower().startswith(("http://", "https://"))


def fetched(url: str, resolve: Resolver | None = None) -> bytes:
    """The bytes at an address.

    Raises:
        DanqingError: `url_refused`.
    """
    until = time.monotonic() + SECONDS
    with _asked(url, "GET", None, {"Accept": "image/*"}, resolve or _resolved, is_public) as answer:
        if answer.status != 200:
            raise _refused(url, f"status {answer.status}")
        return _read(answer, url, until)


def posted(url: str, body: bytes, headers: Mapping[str, str], public: Public | None = None) -> int:
    """Send `body` as JSON to an address; the status that it answers. Nothing of the answer is read.

    Args:
        public: whether an IP address may be gone to; `is_public` where None.

    Raises:
        DanqingError: `url_refused`.
    """
    with _asked(
        url, "POST", body, {"Content-Type": "application/json", **headers}, _resolved, public or is_public
    ) as answer:
        return answer.status


def checked(url: str, public: Public | None = None) -> None:
    """
    Raises:
        DanqingError: `url_refused`, for what is no plain address of a public host.
    """
    _public(_parts(url, any_port=True), url, _resolved, public or is_public)


@contextlib.contextmanager
def _asked(
    url: str,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    resolve: Resolver,
    public: Public,
) -> Iterator[http.client.HTTPResponse]:
    parts = _parts(url, any_port=method == "POST")
    connection = _Pinned(parts, _public(parts, url, resolve, public))
    # A server that sends a byte now and then keeps every single read short: the clock of the whole cuts it off.
    clock = threading.Timer(SECONDS, connection.cut)
    clock.daemon = True
    clock.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, {"User-Agent": "danqing", **headers})
        yield connection.getresponse()
        if connection.late:  # what was read until then is half of it
            raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = "it takes too long" if connection.late else str(error)[:100] or type(error).__name__
        raise _refused(url, reason) from None
    finally:
        clock.cancel()
        connection.close()


def _parts(url: str, any_port: bool = False) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused(url, "it is no address") from None
    if parts.scheme not in PORTS or not parts.hostname or parts.username is not None or not url.isprintable():
        raise _refused(url, "it is no plain address")
    # Other ports are doors of other services, behind whose firewall this machine may stand.
    if port not in (None, *PORTS.values()) and not any_port:
        raise _refused(url, f"port {port}")
    return parts


def _resolved(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _public(parts: SplitResult, url: str, resolve: Resolver, public: Public) -> str:
    """An address of the host, when all of them are public."""
    assert parts.hostname is not None
    try:
        found = resolve(parts.hostname, parts.port or PORTS[parts.scheme])
    except (OSError, UnicodeError):
        raise _refused(url, "the name has no address") from None
    if not found or not all(map(public, found)):
        raise _refused(url, "it is no public address")
    return found[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also when it wraps another one (mapped, 6to4, NAT64 and others)."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if parsed.version == 6:
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if any(parsed in net for net in AROUND_IPV4):
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast and not any(parsed in net for net in INSIDE)


class _Pinned(http.client.HTTPConnection):
    """Goes to an address that was checked, and tells the host's name to the server."""

    def __init__(self, parts: SplitResult, address: str) -> None:
        assert parts.hostname is not None
        super().__init__(parts.hostname, parts.port or PORTS[parts.scheme], timeout=SECONDS / 2)
        self._address, self._encrypted = address, parts.scheme == "https"
        self.late = False

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._encrypted:
            context = ssl.create_default_context()
            encrypted = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = encrypted
            encrypted.do_handshake()

    def cut(self) -> None:
        """End whatever is under way; from any thread."""
        self.late = True
        found: socket.socket | None = self.sock
        if found is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which takes the encryption away from under whoever reads.
                socket.socket.shutdown(found, socket.SHUT_RDWR)


def _read(answer: http.client.HTTPResponse, url: str, until: float) -> bytes:
    body = bytearray()
    while piece := answer.read1(PIECE):
        body += piece
        if len(body) > BYTES:
            raise _refused(url, f"more than {BYTES} bytes")
        if time.monotonic() > until:
            raise _refused(url, "it takes too long")
    return bytes(body)


def _refused(url: str, reason: str) -> DanqingError:
    return DanqingError("url_refused", url=url[:200], reason=reason)
