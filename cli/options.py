"""The options that several commands share, and how a command's function is wrapped: one-line errors, exit codes.

`--data`, `--config` and `--debug` go with every command. A command's function gets its options as keyword arguments
plus `tables`, the tables of the configuration file.
"""

from __future__ import annotations

import getpass
import signal
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cli import preflight
from cli.errors import Stop
from cli.settings import DEFAULT_LISTEN, DRIVERS, PlacePath, Tables, default_data_dir, option, read_config

INTERRUPTED = 130  # as shells tell that Ctrl-C ended a command
LEVELS = ("debug", "info", "warning", "error")
# Every option that a configuration file may hold: one file serves all commands.
KNOWN = {
    *("data", "listen", "hosts", "driver", "nats", "database", "ready_file", "agent_per_host", "nats_sync"),
    "replicas",
    *("log_level", "nats_user", "nats_password", "host", "base_url", "archive"),
}

LISTEN = option(
    "--listen",
    metavar="ADDR:PORT",
    default=DEFAULT_LISTEN,
    help="For every API and the viewer; port 0: a free one.",
)
DRIVER = option("--driver", type=click.Choice(DRIVERS), default="auto", help="What stands behind the agents.")
LOG_LEVEL = option("--log-level", type=click.Choice(LEVELS), default="info", help="How much the logs say.")
DATABASE = option(
    "--database",
    metavar="URL",
    callback=preflight.database_url,
    help="SQLAlchemy URL of the read models; default: SQLite under DIR.",
)
ARCHIVE = option(
    "--archive",
    type=PlacePath(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the log is copied to, best on another disk; default: archive under the data directory.",
)
NATS = option("--nats", metavar="URL[,URL]", callback=preflight.nats_urls, help="A running NATS (cluster).")
REPLICAS = option(
    "--replicas",
    type=click.IntRange(1, 5),
    metavar="1|3|5",
    show_default=False,
    help="On how many servers of the cluster at --nats everything is kept; default: as it is, 1 at first.",
)
NATS_USER = option("--nats-user", metavar="NAME", help="Who this role is on NATS.")
NATS_PASSWORD = option("--nats-password", metavar="TEXT", help="Better given as CHRONOVA_NATS_PASSWORD.")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command's function: add the common options, turn errors into one line and an exit code."""

    @wraps(function)
    def wrapped(debug: bool, config: Path | None, data: Path, **values: Any) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on it is an exception; see `main`
        context = click.get_current_context()
        tables = context.obj if isinstance(context.obj, Tables) else read_config(None, KNOWN)[1]
        try:
            function(data=data.expanduser().absolute(), config=config, tables=tables, **values)
        except Stop as stop:
            if debug:
                traceback.print_exc()
            click.echo(f"chronova: {stop}", err=True)
            sys.exit(stop.code)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click ends quietly when nobody reads on
        except PermissionError as error:
            if debug:
                traceback.print_exc()
            click.echo(f"chronova: {_rights(error)}", err=True)
            sys.exit(1)
        except Exception as error:  # the boundary to the person at the terminal: one line, the rest with --debug
            if debug:
                traceback.print_exc()
            click.echo(
                f"chronova: {type(error).__name__}: {error}{'' if debug else ' (--debug shows where)'}", err=True
            )
            sys.exit(1)

    for decorate in (
        click.option("--debug", is_flag=True, help="Show a traceback when something fails."),
        option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            is_eager=True,
            callback=_apply_config,
            show_default=False,
            help="TOML file; every option is also CHRONOVA_* in the environment.",
        ),
        option(
            "--data",
            type=PlacePath(path_type=Path, file_okay=False),
            default=default_data_dir,
            show_default="$XDG_DATA_HOME/chronova, ~/.local/share/chronova",
            help="State: log, read models, disks, keys, clouds.yaml.",
        ),
    ):
        wrapped = decorate(wrapped)
    return wrapped


def _rights(error: PermissionError) -> str:
    where = error.filename or "a file that it needs"
    return (
        f"user {getpass.getuser()} may not use {where} ({error.strerror}): run this as the user who runs "
        "`chronova up`, or give that user the path"
    )


def _apply_config(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    values, tables = read_config(path, KNOWN)
    mine = {parameter.name for parameter in context.command.params}
    context.default_map = {key: value for key, value in values.items() if key in mine}
    context.obj = tables
    return path.absolute() if path is not None else None
