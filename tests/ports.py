"""Ports of this machine that are free, and stay so while nobody listens on them for a moment."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to connections and to who asks for any port.
PORTS = range(15_000, 32_000)


def free_ports(count: int) -> list[int]:
    held: list[socket.socket] = []
    try:
        for port in random.SystemRandom().sample(PORTS, 20 * count):
            one = socket.socket()
            held.append(one)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                held.pop().close()
            if len(held) == count:
                return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
    raise AssertionError("no free ports")


def free_address() -> str:
    """Of this machine, with such a port."""
    return f"127.0.0.1:{free_ports(1)[0]}"
