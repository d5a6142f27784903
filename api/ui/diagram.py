"""The formal machine as a picture for one server: where it is, where it has been, and where it can go from here. Pure.

Edges are those of the published picture (`domain.machine.render`); this one is small enough for the side of a page,
names only the commands that are legal now, and is coloured by the style sheet. A new vm_state has to be given a place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot

from domain.machine import MACHINE
from domain.machine.render.edges import ANY, vm_state_edges
from domain.states import VM_STATES, status

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]

WIDTH, HEIGHT = 480, 452
HALF_WIDTH, HALF_HEIGHT = 58, 19
PLACES: dict[str, Point] = {
    "building": (240, 24),
    "paused": (62, 96),
    "rescued": (418, 96),
    "active": (240, 136),
    "suspended": (62, 212),
    "error": (418, 212),
    "stopped": (240, 282),
    "resized": (418, 322),
    "shelved": (62, 328),
    "shelved_offloaded": (80, 424),
    "soft-delete": (240, 424),
    "deleted": (400, 424),
}
BEND = 18.0
LINE, CHARACTER = 12, 6.2
ON_THE_WAY = (10, 9, 11, 8, 12, 7, 13, 6, 14, 5, 15)  # twentieths of an edge, the middle first
NAMED_AT_MOST = 2  # commands written beside one edge; the list below the picture has all


@dataclass(frozen=True)
class Node:
    name: str
    status: str
    x: float
    y: float
    left: float
    top: float
    kind: str  # here | walked | open (one command away) | far


@dataclass(frozen=True)
class Edge:
    """`labels`: the commands legal from here that lead along it, with the places to write them."""

    path: str
    kind: str  # open | walked | far
    labels: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Diagram:
    width: float
    height: float
    box_width: float
    box_height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    words: str


def diagram(here: str, walked: Sequence[str], legal: Collection[str]) -> Diagram:
    """`walked`: the vm_states so far, in order; `legal`: the commands that the reader can give now."""
    steps = set(pairwise(walked))
    open_to: dict[str, list[str]] = {}
    edges: list[Edge] = []
    for (source, target), commands in vm_state_edges(MACHINE).items():
        start = here if source == ANY else source
        ways = [command for command in commands if command in legal] if start == here else []
        if ways and target != here:
            open_to.setdefault(target, []).extend(one for one in ways if one not in open_to.get(target, ()))
        if source == ANY:
            continue
        kind = "open" if ways else "walked" if (source, target) in steps else "far"
        edges.append(Edge(_path(PLACES[source], PLACES[target]), kind))
    taken = [(x, y, HALF_WIDTH + 2.0, HALF_HEIGHT + 2.0) for x, y in PLACES.values()]
    drawn = [_open_edge(here, target, commands, taken) for target, commands in open_to.items()]
    order = {"far": 0, "walked": 1, "open": 2}
    edges = sorted((one for one in edges if one.kind != "open"), key=lambda one: order[one.kind]) + drawn
    nodes = tuple(_node(name, _kind(name, here, walked, open_to)) for name in VM_STATES)
    ways_told = "; ".join(f"{', '.join(commands)} leads to {target}" for target, commands in open_to.items())
    words = f"The server is {here}. {ways_told or 'No command is legal now'}."
    return Diagram(WIDTH, HEIGHT, 2 * HALF_WIDTH, 2 * HALF_HEIGHT, nodes, tuple(edges), words)


def _kind(name: str, here: str, walked: Sequence[str], open_to: Collection[str]) -> str:
    if name == here:
        return "here"
    if name in open_to:
        return "open"
    return "walked" if name in walked else "far"


def _node(name: str, kind: str) -> Node:
    x, y = PLACES[name]
    return Node(name, status(name, None), x, y, x - HALF_WIDTH, y - HALF_HEIGHT, kind)


def _open_edge(here: str, target: str, commands: list[str], taken: list[Rectangle]) -> Edge:
    """An edge with its commands written where they cover neither a box nor what is written already."""
    named = commands[:NAMED_AT_MOST] + (["…"] if len(commands) > NAMED_AT_MOST else [])
    size = max(map(len, named)) * CHARACTER / 2, len(named) * LINE / 2
    places = [(*_along(PLACES[here], PLACES[target], number / 20), *size) for number in ON_THE_WAY]
    box = min(places, key=lambda one: sum(_overlap(one, other) for other in taken))
    taken.append(box)
    x, top = box[0], box[1] - (len(named) - 1) * LINE / 2 + 4
    labels = tuple((command, x, top + number * LINE) for number, command in enumerate(named))
    return Edge(_path(PLACES[here], PLACES[target]), "open", labels)


def _along(source: Point, target: Point, t: float) -> Point:
    (x0, y0), (x1, y1), (x2, y2) = source, _control(source, target), target
    return (
        (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t * t * x2,
        (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t * t * y2,
    )


def _overlap(one: Rectangle, other: Rectangle) -> float:
    """The area that two rectangles (middle, half width, half height) share."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0] - one[2], other[0] - other[2])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1] - one[3], other[1] - other[3])
    return max(0.0, wide) * max(0.0, high)


def _control(source: Point, target: Point) -> Point:
    """The middle, moved to the left of the way, so that there and back do not meet."""
    (x0, y0), (x2, y2) = source, target
    length = hypot(x2 - x0, y2 - y0)
    return (x0 + x2) / 2 + BEND * (y2 - y0) / length, (y0 + y2) / 2 - BEND * (x2 - x0) / length


def _path(source: Point, target: Point) -> str:
    x1, y1 = _control(source, target)
    (x0, y0), (x2, y2) = _border(source, (x1, y1)), _border(target, (x1, y1))
    return f"M{x0:.0f} {y0:.0f}Q{x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}"


def _border(middle: Point, towards: Point) -> Point:
    """Where a line from the middle of a box towards a point leaves the box."""
    dx, dy = towards[0] - middle[0], towards[1] - middle[1]
    scale = min(HALF_WIDTH / abs(dx) if dx else 9e9, HALF_HEIGHT / abs(dy) if dy else 9e9)
    return middle[0] + dx * scale, middle[1] + dy * scale
