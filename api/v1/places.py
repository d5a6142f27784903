"""Places in the log as clients give them back: `12.0` is after one event of a commit, `12` after all of a commit.

The first is the id of an event, which its CloudEvent carries, so that whoever was cut off in the middle of a commit can
go on exactly there; the second is the id of its message on a stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.errors import Invalid

_FORM = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,4}))?")


@dataclass(frozen=True)
class Place:
    """After the event of this index in the commit at this position; without an index, after the whole commit."""

    position: int
    index: int | None = None

    def __str__(self) -> str:
        return str(self.position) if self.index is None else f"{self.position}.{self.index}"

    @property
    def commits_before(self) -> int:
        """The last position of which nothing is left to tell: the commit that follows may have been told in part."""
        return self.position if self.index is None else max(self.position - 1, 0)

    def is_before(self, position: int, index: int) -> bool:
        """Whether an event comes after this place."""
        return position > self.position or (position == self.position and self.index is not None and index > self.index)


def parse_place(text: str, name: str) -> Place:
    """A position, or the id of an event. Raises 400, which calls what was given `name`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Invalid(
            f"{name} is no position and no id of an event: {text!r}",
            hint="Send the id of the last event that you have, such as 1204.0, or a position of the log.",
        )
    position, index = found.groups()
    return Place(int(position), int(index) if index else None)
