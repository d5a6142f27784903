"""Whether requirements.lock fits pyproject.toml: it holds everything asked for, and says nothing of where it came from.

`tools/lock.sh` writes the lock. Prints what is wrong and exits 1; needs no network.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def name_of(requirement: str) -> str:
    """A package's name as a lock spells it: `psycopg[binary]>=3.2,<4` is `psycopg`."""
    name = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name_of(line) for line in lock.splitlines() if re.match(r"[A-Za-z0-9].*==", line)}
    wrong = [f"{name} is not in requirements.lock" for name in sorted({name_of(one) for one in asked} - locked)]
    if "://" in lock or re.search(r"^--|^\S+ @ ", lock, re.MULTILINE):
        wrong.append("requirements.lock names an address")
    for line in wrong:
        print(f"lock: {line}; run `make lock`", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
