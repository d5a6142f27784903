"""What chronova can be told, and where from: options, then `CHRONOVA_*` in the environment, then a TOML file.

A key of the TOML file is an option's name with underscores (`data`, `listen`, `hosts`, `ready_file`, ...). Three tables
tune the rooms, each key also being `CHRONOVA_<TABLE>_<KEY>` in the environment:

- `[commands]`: the fields of `commands.settings.CommandSettings` (deadline_seconds, grace_seconds, ...);
- `[api]`: the fields of `api.services.ApiSettings` (region, page_limit, ...);
- `[driver]`: options of the hypervisor driver (see the drivers), and as its `kind` which driver that is: the option
  `driver`, which may also stand alone (`driver = "simulated"`).

Unknown keys are refused: a misspelt option must not be silently without effect.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

TABLES = ("commands", "api", "driver")
DRIVERS = ("auto", "libvirt", "libvirt-test", "simulated")
DEFAULT_LISTEN = "127.0.0.1:8774"
MAX_HOSTS = 5000
MAX_SECONDS = 1e9

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class PlacePath(click.Path):
    """A path that is one: the empty text would be the directory that one happens to be in."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not str(value):
            self.fail("an empty text names no place", parameter, context)
        return super().convert(value, parameter, context)


@dataclass(frozen=True)
class Tables:
    """The tables of the configuration file with the environment applied."""

    commands: dict[str, Any] = field(default_factory=dict)
    api: dict[str, Any] = field(default_factory=dict)
    driver: dict[str, Any] = field(default_factory=dict)


def default_data_dir() -> str:
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "chronova")


def read_config(path: Path | None, known: set[str]) -> tuple[dict[str, Any], Tables]:
    """The options and the tables of a configuration file. Raises `click.UsageError` for what it can not mean."""
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text())
        except OSError as error:
            raise click.UsageError(f"the configuration file {path} can not be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise click.UsageError(f"the configuration file {path} is not TOML: {error}") from error
    driver = content.pop("driver", {})
    kind = driver.pop("kind", None) if isinstance(driver, dict) else driver
    tables = {name: content.pop(name, {}) for name in TABLES} | {"driver": driver if isinstance(driver, dict) else {}}
    unknown = sorted(set(content) - known)
    if unknown:
        raise click.UsageError(
            f"{path}: unknown option{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
            f"known are {', '.join(sorted(known))} and the tables {', '.join(TABLES)}"
        )
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise click.UsageError(f"{path}: {name} has to be a table: [{name}]")
        table.update(_from_environment(name, os.environ))
    if kind is not None:
        if kind not in DRIVERS:
            raise click.UsageError(f"{path}: driver {kind!r} is none of {', '.join(DRIVERS)}")
        content["driver"] = kind
    return content, Tables(**tables)


def build(kind: type[Any], table: Mapping[str, Any], name: str, **fixed: Any) -> Any:
    """A settings object of a room from its table. Raises `click.UsageError` for unknown keys and wrong values."""
    import msgspec

    unknown = sorted(set(table) - (set(kind.__dataclass_fields__) - set(fixed)))
    if unknown:
        raise click.UsageError(f"[{name}] has no option {', '.join(unknown)}")
    hints = kind.__annotations__
    values = {}
    for key, value in table.items():
        try:
            values[key] = _convert(value, str(hints.get(key, "str")))
            _must_be_in_range(values[key], kind, key)
        except (msgspec.ValidationError, ValueError) as error:
            raise click.UsageError(f"[{name}] {key}: {error}") from error
    return kind(**values, **fixed)


def check(tables: Tables, driver: str) -> None:
    """Raises `click.UsageError` for what a room of the control plane or that driver will refuse: before it is started.

    What `auto` will be is not known yet: then it is an option of any driver, and the agent looks again.
    """
    from api.services import ApiSettings
    from commands.settings import CommandSettings

    build(ApiSettings, tables.api, "api", data_dir=Path())
    build(CommandSettings, tables.commands, "commands", images_dir=Path(), volumes_dir=Path(), seal=str, unseal=str)
    if tables.driver:
        from hypervisor_agent.driver import must_know

        try:
            must_know(driver, tables.driver)
        except ValueError as error:
            raise click.UsageError(f"[driver] {error}") from error


def _must_be_in_range(value: Any, kind: type[Any], key: str) -> None:
    """Numbers count something, and those with a fraction are seconds. A field may have a `least` that is not 0; its
    `besides` is allowed, too.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    bounds = kind.__dataclass_fields__[key].metadata
    least = bounds.get("least", 0)
    if value == bounds.get("besides", least):
        return
    if not value >= least:
        raise ValueError(f"{value:g} can not be: it has to be {least:g} or more")
    if isinstance(value, float) and value > MAX_SECONDS:
        raise ValueError(f"{value:g} is more than {MAX_SECONDS:g} seconds")


def _convert(value: Any, annotation: str) -> Any:
    import msgspec

    kinds: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "Path": Path}
    names = [part.strip() for part in annotation.split("|")]
    if value is None and "None" in names:
        return None
    for one in names:
        if one == "Path":
            return Path(value)
        if one in kinds:
            return msgspec.convert(value, kinds[one], strict=False)
    return value


def _from_environment(table: str, environment: Mapping[str, str]) -> dict[str, Any]:
    prefix = f"CHRONOVA_{table.upper()}_"
    return {
        name.removeprefix(prefix).lower(): _value(text) for name, text in environment.items() if name.startswith(prefix)
    }


def _value(text: str) -> Any:
    """A number, boolean, list or object if it reads like JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def option(*names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """An option that is also `CHRONOVA_<NAME>` in the environment and shows its default."""
    long = max(names, key=len).split("/")[0].lstrip("-")
    attributes.setdefault("envvar", "CHRONOVA_" + long.upper().replace("-", "_"))
    attributes.setdefault("show_default", True)
    return click.option(*names, **attributes)
