"""The hosts as a placement sees them, kept so that those which look the same stand together.

In a fleet of a thousand equal hosts there are a handful of different looks at any time. A host is moved to its new
place when something about it changes, which costs the same however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

import msgspec

from domain.scheduling import Alike, HostView


class Fleet:
    """Hosts by look. Iterating gives each look with its hosts."""

    def __init__(self, hosts: Iterable[HostView] = ()) -> None:
        self._names: dict[HostView, list[str]] = {}  # look -> names, ascending
        self._look: dict[str, HostView] = {}  # name -> look
        for host in hosts:
            self.put(host)

    def __iter__(self) -> Iterator[Alike]:
        return self.apart(())

    def hosts(self) -> Iterator[HostView]:
        """Each host by itself."""
        return (msgspec.structs.replace(look, name=name) for name, look in self._look.items())

    def put(self, host: HostView) -> None:
        """A host that is new, or looks different now."""
        look = msgspec.structs.replace(host, name="")
        if self._look.get(host.name) == look:
            return
        self.remove(host.name)
        self._look[host.name] = look
        insort(self._names.setdefault(look, []), host.name)

    def remove(self, name: str) -> None:
        """Leave a host out from now on; one that is not here already is."""
        look = self._look.pop(name, None)
        if look is None:
            return
        names = self._names[look]
        del names[bisect_left(names, name)]
        if not names:
            del self._names[look]

    def apart(self, named: Iterable[str]) -> Iterator[Alike]:
        """The same, with each of the hosts named standing by itself."""
        alone = {name: self._look[name] for name in named if name in self._look}
        looks = set(alone.values())
        for look, names in self._names.items():
            together = names if look not in looks else [name for name in names if name not in alone]
            if together:
                yield Alike(look, together)
        for name, look in alone.items():
            yield Alike(look, (name,))

    def only(self, name: str | None) -> Fleet:
        """The fleet of this one host; empty if it is not here."""
        look = self._look.get(name or "")
        return Fleet() if look is None else Fleet([msgspec.structs.replace(look, name=name or "")])
