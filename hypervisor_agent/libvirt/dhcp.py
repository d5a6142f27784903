"""Addresses for guests that ask: a DHCP server that knows only the guests of its own host.

A guest reads its addresses from the config drive when it boots; an interface that is plugged in later is not there, and
images without cloud-init ask anyway. One socket per bridge, so that several hosts on one machine listen side by side:
each answers for its own guests' MACs, with the first IPv4 address of the port, for ever, and is silent about others.
An answer is made from what the host remembers of its guests at that moment: nothing is kept here, and a lost answer is
asked for again. Without the right to listen (not root) there is no server, as there are no bridges then.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import struct
import threading
from collections.abc import Callable

import msgspec
import structlog

from domain.orders import AddressSpec, NicSpec

log_ = structlog.get_logger(__name__)
SERVER_PORT, CLIENT_PORT = 67, 68
MAGIC = b"\x63\x82\x53\x63"
HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
KIND, MASK, ROUTER, DNS, MTU, LEASE, SERVER, END = 53, 1, 3, 6, 26, 51, 54, 255
FOR_EVER = 0xFFFFFFFF
NO_GATEWAY = "169.254.169.254"  # who answers on a subnet without a gateway
LARGEST = 2048


class Dhcp:
    """`find` tells the NIC of a MAC on this host, or None. `listen` and `forget` may be called from any thread."""

    def __init__(self, find: Callable[[str], NicSpec | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._sockets: dict[str, tuple[int, socket.socket]] = {}
        self._selector: selectors.BaseSelector | None = None
        self._wake, self._woken = socket.socketpair()
        self._thread: threading.Thread | None = None

    def listen(self, bridge: str) -> None:
        """Answer on this bridge from now on; one that was made anew gets a new socket."""
        with self._lock:
            index = socket.if_nametoindex(bridge)
            known = self._sockets.get(bridge)
            if known is not None and known[0] == index:
                return
            self._drop(bridge)
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                for option in (socket.SO_REUSEADDR, socket.SO_BROADCAST):
                    made.setsockopt(socket.SOL_SOCKET, option, 1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
                made.setblocking(False)
                made.bind(("", SERVER_PORT))
            except OSError:
                made.close()
                return
            self._sockets[bridge] = (index, made)
            if self._selector is None:
                self._selector = selectors.DefaultSelector()
                self._selector.register(self._woken, selectors.EVENT_READ)
                self._thread = threading.Thread(target=self._serve, name="dhcp", daemon=True)
                self._thread.start()
            self._selector.register(made, selectors.EVENT_READ)

    def forget(self, bridge: str) -> None:
        with self._lock:
            self._drop(bridge)

    def close(self) -> None:
        self._wake.close()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for bridge in list(self._sockets):
                self._drop(bridge)
            if self._selector is not None:
                self._selector.close()
        self._woken.close()

    def _drop(self, bridge: str) -> None:
        known = self._sockets.pop(bridge, None)
        if known is not None and self._selector is not None:
            self._selector.unregister(known[1])
            known[1].close()

    def _serve(self) -> None:
        assert self._selector is not None
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                with self._lock:
                    self._answer(key.fileobj)

    def _answer(self, asked: object) -> None:
        if not isinstance(asked, socket.socket) or asked.fileno() < 0:
            return  # forgotten since
        try:
            request = asked.recv(LARGEST)
            answer = answer_to(request, self._find)
            if answer is not None:
                asked.sendto(answer, ("255.255.255.255", CLIENT_PORT))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            # The bridge went away, or what is remembered of a guest cannot be read. The guest asks again.
            log_.warning("dhcp question not answered", error=repr(error))


def answer_to(request: bytes, find: Callable[[str], NicSpec | None]) -> bytes | None:
    """The reply to a DHCP packet; None when it is no question of a guest that `find` knows."""
    if len(request) < HEADER.size or request[0] != 1 or request[HEADER.size - 4 : HEADER.size] != MAGIC:
        return None
    _, hardware, length, _, transaction, _, flags, *_rest = HEADER.unpack_from(request)
    chaddr = request[28:44]
    kind = _options(request[HEADER.size :]).get(KIND, b"\0")[0]
    if kind not in (DISCOVER, REQUEST) or length != 6:
        return None
    nic = find(":".join(f"{byte:02x}" for byte in chaddr[:6]))
    address = next((one for one in nic.addresses if one.version == 4), None) if nic is not None else None
    if nic is None or address is None:
        return None
    server = _packed(address.gateway or NO_GATEWAY)
    header = HEADER.pack(
        2, hardware, length, 0, transaction, 0, flags, bytes(4), _packed(address.address), server, bytes(4), chaddr,
        bytes(64), bytes(128), MAGIC,
    )  # fmt: skip
    return header + _told(nic, address, server, OFFER if kind == DISCOVER else ACK)


def _told(nic: NicSpec, address: AddressSpec, server: bytes, kind: int) -> bytes:
    mask = ipaddress.ip_network(f"0.0.0.0/{address.prefix_length}").netmask.packed
    options = [(KIND, bytes([kind])), (SERVER, server), (LEASE, struct.pack("!I", FOR_EVER)), (MASK, mask)]
    if address.gateway:
        options.append((ROUTER, server))
    names = b"".join(_packed(one) for one in address.dns if ":" not in one)
    if names:
        options.append((DNS, names))
    options.append((MTU, struct.pack("!H", nic.mtu)))
    return b"".join(bytes([code, len(value)]) + value for code, value in options) + bytes([END])


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 1 < len(data) and data[at] != END:
        if data[at] == 0:
            at += 1
            continue
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed
