"""The `chronova` command. Every subcommand lives in a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

SUBCOMMANDS = {
    "up": "cli.commands_run:up",
    "api": "cli.commands_run:api",
    "conductor": "cli.commands_run:conductor",
    "projector": "cli.commands_run:projector",
    "archive": "cli.commands_run:archive",
    "control": "cli.commands_run:control",
    "agent": "cli.commands_run:agent",
    "history": "cli.history:history",
    "show": "cli.show:show",
    "explain": "cli.explain:explain",
    "events": "cli.events:events",
    "replay": "cli.replay:replay",
    "audit": "cli.audit:audit",
    "machine": "cli.machine:machine",
    "stuck": "cli.stuck:stuck",
    "bench": "cli.bench:bench",
}


class WrongUsage(click.ClickException):
    """Wrong usage, told in one line as every other error is."""

    exit_code = 2

    def __init__(self, error: click.UsageError) -> None:
        where = "" if error.ctx is None else f" (see {error.ctx.command_path} --help)"
        super().__init__(f"{error.format_message().rstrip('.')}{where}")

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"chronova: {self.format_message()}", file=file, err=file is None)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise WrongUsage(error) from error


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when it is asked for."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = SUBCOMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="chronova")
def main() -> None:
    """A compute control plane whose truth is an event log."""


if __name__ == "__main__":
    main()
