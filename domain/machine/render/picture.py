"""The vm_state graph as SVG, drawn by hand-set places and computed edges: it needs no tool and no network.

A new vm_state has to be given a place in `PLACES`; everything else follows from the rules. Labels are put where they
cover neither a box nor another label.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import hypot

from domain.machine.render.edges import ANY, may_end_in_error, vm_state_edges
from domain.machine.table import Machine
from domain.states import VM_STATES, status

WIDTH, HEIGHT = 1500, 1000
PLACES = {
    "building": (740, 70),
    "active": (740, 330),
    "paused": (120, 190),
    "suspended": (425, 345),
    "rescued": (1310, 170),
    "error": (1310, 410),
    "stopped": (980, 650),
    "resized": (1310, 670),
    "shelved": (600, 640),
    "shelved_offloaded": (250, 880),
    "soft-delete": (700, 900),
    "deleted": (1310, 900),
    ANY: (970, 900),
}
HALF_WIDTH, HALF_HEIGHT = 82, 25
LINE_HEIGHT, CHARACTER = 15, 6.6
BEND = 36.0

_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1c2733;text-anchor:middle}
.name{font-weight:600}.status{font-size:11px;fill:#5b6b7b}
.box{fill:#f3f6f9;stroke:#51677d;stroke-width:1.4}.any{fill:#fff;stroke-dasharray:5 4}
.edge{fill:none;stroke:#7b8da0;stroke-width:1.3}.label{fill:#fff;fill-opacity:.94}
.command{font-size:12px;fill:#0b4f8a}.note{text-anchor:start;font-size:12px;fill:#5b6b7b}
"""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle by its middle."""

    x: float
    y: float
    half_width: float
    half_height: float

    def overlaps(self, other: Box) -> bool:
        apart_x = abs(self.x - other.x) >= self.half_width + other.half_width
        apart_y = abs(self.y - other.y) >= self.half_height + other.half_height
        return not (apart_x or apart_y)


@dataclass(frozen=True)
class Curve:
    """A quadratic curve from one box to another, bent to its left so that there and back do not meet."""

    start: Point
    control: Point
    end: Point

    def at(self, t: float) -> Point:
        def mix(a: float, b: float, c: float) -> float:
            return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c

        (x0, y0), (x1, y1), (x2, y2) = self.start, self.control, self.end
        return mix(x0, x1, x2), mix(y0, y1, y2)


def svg(machine: Machine) -> str:
    """The picture as one SVG document."""
    edges = vm_state_edges(machine)
    boxes = [Box(x, y, HALF_WIDTH + 4, HALF_HEIGHT + 4) for x, y in PLACES.values()]
    lines, labels = [], []
    for (source, target), commands in edges.items():
        curve = _curve(PLACES[source], PLACES[target])
        lines.append(_path(curve))
        label, box = _label(curve, commands, boxes)
        labels.append(label)
        boxes.append(box)
    nodes = [_node(name) for name in (*VM_STATES, ANY)]
    body = "\n".join([*lines, *nodes, *labels, *_notes(machine)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="vm_states and the commands between them">\n<style>{_STYLE}</style>\n'
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 10 5 0 10z" fill="#7b8da0"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _curve(source: Point, target: Point) -> Curve:
    (x0, y0), (x2, y2) = source, target
    length = hypot(x2 - x0, y2 - y0)
    control = (x0 + x2) / 2 + BEND * (y2 - y0) / length, (y0 + y2) / 2 - BEND * (x2 - x0) / length
    return Curve(_border(source, control), control, _border(target, control))


def _border(middle: Point, towards: Point) -> Point:
    """Where a line from the middle of a box towards a point leaves the box."""
    dx, dy = towards[0] - middle[0], towards[1] - middle[1]
    scale = min(HALF_WIDTH / abs(dx) if dx else 9e9, HALF_HEIGHT / abs(dy) if dy else 9e9)
    return middle[0] + dx * scale, middle[1] + dy * scale


def _path(curve: Curve) -> str:
    (x0, y0), (x1, y1), (x2, y2) = curve.start, curve.control, curve.end
    return f'<path class="edge" marker-end="url(#tip)" d="M{x0:.0f} {y0:.0f}Q{x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}"/>'


def _label(curve: Curve, commands: list[str], taken: list[Box]) -> tuple[str, Box]:
    """The commands beside their edge, at the place nearest to its middle that is free."""
    half_width = max(len(command) for command in commands) * CHARACTER / 2 + 4
    half_height = len(commands) * LINE_HEIGHT / 2 + 2
    places = sorted((number / 40 for number in range(6, 35)), key=lambda t: abs(t - 0.5))
    candidates = [Box(*curve.at(t), half_width, half_height) for t in places]
    box = min(candidates, key=lambda one: sum(one.overlaps(other) for other in taken))
    top = box.y - half_height + LINE_HEIGHT - 2
    texts = "".join(
        f'<text class="command" x="{box.x:.0f}" y="{top + number * LINE_HEIGHT:.0f}">{escape(command)}</text>'
        for number, command in enumerate(commands)
    )
    x, y = box.x - half_width, box.y - half_height
    size = f'width="{2 * half_width:.0f}" height="{2 * half_height:.0f}"'
    return f'<rect class="label" x="{x:.0f}" y="{y:.0f}" {size} rx="3"/>{texts}', box


def _node(name: str) -> str:
    x, y = PLACES[name]
    kind, title, below = ("box", name, status(name, None)) if name != ANY else ("box any", "any vm_state", "")
    size = f'width="{2 * HALF_WIDTH}" height="{2 * HALF_HEIGHT}"'
    return (
        f'<rect class="{kind}" x="{x - HALF_WIDTH}" y="{y - HALF_HEIGHT}" {size} rx="9"/>'
        f'<text class="name" x="{x}" y="{y - 2 if below else y + 5}">{escape(title)}</text>'
        f'<text class="status" x="{x}" y="{y + 14}">{escape(below)}</text>'
    )


def _notes(machine: Machine) -> list[str]:
    failing = may_end_in_error(machine)
    cuts = [*range(0, len(failing), 9), len(failing)]
    lines = [", ".join(failing[start:end]) for start, end in pairwise(cuts)]
    lines[0] = f"A failure may leave error: {lines[0]},"
    return [f'<text class="note" x="24" y="{968 + 16 * n}">{escape(line)}</text>' for n, line in enumerate(lines)]
