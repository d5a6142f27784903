"""docs/machine is what the rules say now, and says it completely."""

import json
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

from domain.machine import MACHINE, render
from domain.machine.render.__main__ import drift
from domain.machine.render.picture import PLACES
from domain.states import TASK_STATES, VM_STATES

ROOT = Path(__file__).parents[2]
USERS = [rule.id for rule in MACHINE.commands.values() if not rule.internal]


def test_documents_do_not_drift() -> None:
    assert drift(ROOT / "docs/machine") == [], "run python -m domain.machine.render --write docs/machine"


def test_check_tells_drift_by_its_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "domain.machine.render"]

    def run(*options: str) -> int:
        return subprocess.run([*command, *options], cwd=ROOT, check=False, timeout=60, capture_output=True).returncode

    assert run("--write", str(tmp_path)) == 0
    assert run("--check", str(tmp_path)) == 0
    (tmp_path / "matrix.md").write_text("edited by hand", encoding="utf-8")
    assert run("--check", str(tmp_path)) == 1


def test_json_has_every_cell() -> None:
    document = json.loads(render.json())
    cells = {(cell["command"], cell["vm_state"], cell["task_state"]): cell for cell in document["cells"]}
    assert len(cells) == len(document["cells"]) == 55 * 12 * 43
    stop = cells["stop", "active", None]
    assert (stop["accepted"], stop["task_state_after"]) == (True, "powering-off")
    refused = cells["stop", "paused", "unpausing"]
    assert (refused["accepted"], refused["task_state_after"]) == (False, "unpausing")
    assert [command["id"] for command in document["commands"]] == USERS


def test_matrix_names_every_command_and_state() -> None:
    text = render.matrix()
    for name in (*USERS, *TASK_STATES):
        assert name in text
    assert "power-sync" in text


def test_svg_is_xml_and_draws_every_vm_state() -> None:
    root = xml.fromstring(render.svg())
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert set(VM_STATES) < texts
    assert set(VM_STATES) < set(PLACES)


def test_mermaid_draws_every_edge_between_states_that_exist() -> None:
    lines = render.mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert any("active --> paused: pause" in line for line in lines)
    assert any("any --> deleted: delete, force-delete" in line for line in lines)
