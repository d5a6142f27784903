"""`up` and the single roles, as commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import data_dir, preflight
from cli import options as shared
from cli.options import command
from cli.settings import MAX_HOSTS, PlacePath, Tables, check, option

if TYPE_CHECKING:
    from cli.roles import RoleOptions


@click.command()
@command
@shared.LISTEN
@option("--hosts", type=click.IntRange(1, MAX_HOSTS), default=1, help="Agents to start, named host-1..N.")
@shared.DRIVER
@shared.NATS
@shared.REPLICAS
@shared.DATABASE
@shared.ARCHIVE
@option("--ready-file", type=PlacePath(path_type=Path, dir_okay=False), help="JSON, written once the API answers.")
@option("--agent-per-host/--agents-together", default=False, help="A process of its own for every simulated host.")
@option(
    "--nats-sync",
    metavar="always|DURATION|default",
    default="always",
    callback=preflight.sync_interval,
    help="When the log is forced to disk: always, or every DURATION such as 2s.",
)
@shared.LOG_LEVEL
def up(data: Path, config: Path | None, tables: Tables, **values: Any) -> None:
    """Everything in one go: embedded NATS, control plane, N agents."""
    from cli.up import UpOptions
    from cli.up import up as run_up

    if (values["replicas"] or 1) > 1 and not values["nats"]:
        raise click.UsageError("the embedded NATS is one server: for --replicas, name a cluster with --nats")
    check(tables, values["driver"])
    run_up(UpOptions(data=data, config=config, private=guests_are_ours(tables), **values))


def guests_are_ours(tables: Tables) -> bool:
    """Guests run as chronova's own user. A libvirtd that was named may run them as another, who reads the disks."""
    return not tables.driver.get("uri")


def _role(name: str, function: Any) -> Any:
    """The options of every single role."""
    for decorate in (shared.LOG_LEVEL, shared.NATS_PASSWORD, shared.NATS_USER, shared.DATABASE, shared.NATS):
        function = decorate(function)
    return click.command(name)(command(function))


def _control(data: Path, tables: Tables, parts: set[str], values: dict[str, Any]) -> None:
    from cli import roles

    if values["database"]:
        preflight.database_must_answer(values["database"])
    roles.run(roles.control(_role_options(data, tables, **values), frozenset(parts)))


def _role_options(
    data: Path,
    tables: Tables,
    *,
    nats: tuple[str, ...],
    nats_user: str | None,
    nats_password: str | None,
    database: str | None,
    log_level: str,
    role: str,
    **more: Any,
) -> RoleOptions:
    from cli import logging
    from cli.roles import RoleOptions

    if not nats:
        raise click.UsageError("where is NATS? give --nats URL (`chronova up` brings one of its own)")
    preflight.nats_must_answer(nats)
    logging.set_up(log_level, role)
    data_dir.claim(data)
    if guests_are_ours(tables):
        data_dir.keep_private(data)
    return RoleOptions(
        data=data,
        nats=nats,
        nats_user=nats_user,
        nats_password=nats_password,
        database=database or f"sqlite:///{data}/read-models.db",
        tables=tables,
        **more,
    )


def _api(data: Path, config: Path | None, tables: Tables, listen: str, **values: Any) -> None:
    """The API and the viewer."""
    from cli.up import split_address

    _control(data, tables, {"api"}, values | {"listen": split_address(listen), "role": "api"})


def _conductor(data: Path, config: Path | None, tables: Tables, **values: Any) -> None:
    """The conductor: carries accepted commands through. Of several, one works and the others stand by."""
    _control(data, tables, {"conductor"}, values | {"role": "conductor"})


def _projector(data: Path, config: Path | None, tables: Tables, **values: Any) -> None:
    """The projector: keeps the read models equal to the log."""
    from cli import roles

    if values["database"]:
        preflight.database_must_answer(values["database"])
    roles.run(roles.projector(_role_options(data, tables, **values, role="projector")))


def _archive(data: Path, config: Path | None, tables: Tables, **values: Any) -> None:
    """The archive: a copy of the log in files, from which a lost log is restored."""
    from cli import roles

    options = _role_options(data, tables, **values, role="archive")
    roles.run(roles.archive(options))


def _together(data: Path, config: Path | None, tables: Tables, **values: Any) -> None:
    """API and conductor in one process: the control plane but for the projector."""
    _control(data, tables, {"api", "conductor"}, values | {"role": "control"})


def _agent(data: Path, config: Path | None, tables: Tables, host: tuple[str, ...], driver: str, **values: Any) -> None:
    """A hypervisor host's agent (or several, with the simulated driver)."""
    from cli import roles

    role = host[0] if len(host) == 1 else "agents"
    roles.run(roles.agent(_role_options(data, tables, hosts=host, driver=driver, role=role, **values)))


api = _role("api", shared.REPLICAS(shared.LISTEN(shared.DRIVER(_api))))
conductor = _role("conductor", shared.REPLICAS(_conductor))
projector = _role("projector", shared.REPLICAS(_projector))
archive = _role("archive", shared.REPLICAS(shared.ARCHIVE(_archive)))
control = _role(
    "control",
    option("--base-url", metavar="URL", default="", help="The address that clients use.")(
        click.option("--listen-fd", type=int, default=-1, help="An open listening socket.")(
            click.option("--expect-hosts", type=int, default=0, help="Be ready when so many hosts are.")(
                shared.REPLICAS(shared.DRIVER(_together))
            )
        )
    ),
)
agent = _role(
    "agent",
    option("--host", multiple=True, required=True, metavar="NAME", help="The host.")(
        click.option(
            "--share",
            type=click.IntRange(1, MAX_HOSTS),
            default=1,
            help="Hosts on this machine: each offers its part of the CPUs and memory.",
        )(shared.DRIVER(_agent))
    ),
)
