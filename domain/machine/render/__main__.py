"""Write the machine's documents, or tell whether those on disk are what the rules say (exit 1: they are not)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from domain.machine.render import documents

DOCUMENTS = Path("docs/machine")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m domain.machine.render", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", metavar="DIR", type=Path, help="write every document into DIR")
    what.add_argument("--check", metavar="DIR", type=Path, nargs="?", const=DOCUMENTS, help=f"compare ({DOCUMENTS})")
    options = parser.parse_args()
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        for name, text in documents().items():
            (options.write / name).write_text(text, encoding="utf-8")
        return 0
    stale = drift(options.check)
    for name in stale:
        print(f"{options.check / name} is stale: run python -m domain.machine.render --write {options.check}")
    return 1 if stale else 0


def drift(directory: Path) -> list[str]:
    """The names of documents in `directory` that are missing or not what the rules say."""

    def on_disk(name: str) -> str | None:
        path = directory / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    return [name for name, text in documents().items() if on_disk(name) != text]


if __name__ == "__main__":
    sys.exit(main())
