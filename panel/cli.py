"""The command line: ``openidcs``. Every command calls the services that the pages and the API call."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from panel import __version__, clidata
from panel.app import build_services
from panel.clikit import actor, opened, run, table
from panel.engines.types import EngineKind
from panel.errors import PanelError
from panel.models.database import close_database, migrate, open_database
from panel.models.holding import held
from panel.services.hosts import HostRequest
from panel.services.unpacking import unpacked_name
from panel.settings import Settings, load_settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="openidcs")
def main() -> None:
    """OpenIDCS Panel: one page and one API over every hypervisor you own.

    Settings come from PANEL_* variables and panel.toml in the data folder (PANEL_DATA_FOLDER, default: data).
    """


# -- serve, migrate --------------------------------------------------------------------------------------------


@main.command()
def serve() -> None:
    """Serve the panel until Ctrl-C. VMs keep running."""
    from panel.server import serve_forever

    try:
        settings = load_settings()
        with held(settings.database):
            if applied := asyncio.run(migrate(settings.database)):
                click.echo(f"Database: applied {', '.join(applied)}.")
                _begin_anew()
            asyncio.run(prepare(settings))
            serve_forever(settings)
    except PanelError as error:
        raise click.ClickException(str(error)) from error


def _begin_anew() -> None:
    """Run the same command in place of this process, under its number: what migrating took, as much again as the whole panel
    takes at rest, would stay with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command


async def prepare(settings: Settings) -> None:
    """What has to be there before the first request, besides the schema: key, token, this machine as host ``local``."""
    services = build_services(settings)
    await open_database(settings.database)
    try:
        token = await services.access.ensure_token()
        if settings.local_host:
            if await services.hosts.ensure_local(actor(), settings.disks_path, settings.images_path):
                click.echo("Registered this machine as host local.")
            elif services.pool.elsewhere(local := await services.hosts.get("local")):
                click.echo(
                    f"Host local is machine {local.machine}; this is {services.pool.here}. "
                    "Add this machine's hypervisor under another name."
                )
    finally:
        await close_database()
    address = "localhost" if settings.host in {"127.0.0.1", "::1"} else settings.host
    click.echo(f"OpenIDCS Panel {__version__}: http://{address}:{settings.port}{settings.base_path or '/'}")
    if settings.host in {"127.0.0.1", "::1"}:
        click.echo("It listens on this machine only. To open it to the network: PANEL_HOST=0.0.0.0")
    if token is not None:
        click.echo(f"Access token (shown once; `openidcs token show` prints it again): {token}")


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database up to date."""
    applied = run(lambda: migrate(load_settings().database))
    click.echo(f"Applied: {', '.join(applied)}." if applied else "Nothing to apply.")


for command in clidata.COMMANDS:
    main.add_command(command)


# -- token -----------------------------------------------------------------------------------------------------


@main.group()
def token() -> None:
    """The access token: what opens the login page and the API."""


@token.command("show")
def token_show() -> None:
    """Print the access token."""

    async def work() -> str:
        async with opened() as services:
            return await services.access.token()

    click.echo(run(work))


@token.command("reset")
def token_reset() -> None:
    """Replace the access token by a new random one. All logins end."""

    async def work() -> str:
        async with opened() as services:
            return await services.access.reset_token(actor())

    click.echo(run(work))


@token.command("set")
@click.argument("value", required=False)
def token_set(value: str | None) -> None:
    """Set the access token to VALUE; without it, read one line from standard input."""
    chosen = value if value is not None else sys.stdin.readline().strip()

    async def work() -> None:
        async with opened() as services:
            await services.access.set_token(actor(), chosen)

    run(work)
    click.echo("The access token is set. All logins ended.")


# -- host ------------------------------------------------------------------------------------------------------


@main.group()
def host() -> None:
    """The hosts of the panel."""


@host.command("list")
def host_list() -> None:
    """List the hosts with their health."""

    async def work() -> list[tuple[str, ...]]:
        async with opened() as services:
            return [
                (row.name, row.engine.value, row.address or "this machine", row.health.value, row.version)
                for row in await services.hosts.all()
            ]

    table(("NAME", "ENGINE", "ADDRESS", "HEALTH", "VERSION"), run(work))


def _request(engine: str | None, address: str | None, user: str | None, options: tuple[str, ...]) -> HostRequest:
    given: dict[str, str] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            raise click.BadParameter(f"{option!r} is not NAME=VALUE.", param_hint="--option")
        given[key] = value
    return HostRequest(
        engine=EngineKind(engine) if engine else None,
        address=address,
        user=user,
        secret=given.pop("server_pass", None),
        disks_path=given.pop("system_path", None),
        images_path=given.pop("images_path", None),
        launch_path=given.pop("launch_path", None),
        options=given,
    )


@host.command("add")
@click.argument("name")
@click.option("--engine", type=click.Choice([kind.value for kind in EngineKind]), required=True)
@click.option("--address", help="Host name, IP or URI; empty: this machine.")
@click.option("--user", help="User on the host.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="A field of the engine, as in the API.")
def host_add(name: str, engine: str, address: str | None, user: str | None, options: tuple[str, ...]) -> None:
    """Add host NAME, once a connection to it was made."""
    request = _request(engine, address, user, options)

    async def work() -> Any:
        async with opened() as services:
            return await services.hosts.create(actor(), name, request)

    _row, info = run(work)
    click.echo(f"Added {name}: {info.version} on {info.hostname}.")
    for warning in info.warnings:
        click.echo(f"Note: {warning}")


@host.command("test")
@click.argument("name")
def host_test(name: str) -> None:
    """Connect to host NAME and say what is there."""

    async def work() -> Any:
        async with opened() as services:
            row = await services.hosts.get(name)
            return await services.hosts.test(actor(), name, HostRequest(engine=row.engine))

    info = run(work)
    click.echo(f"{info.version} on {info.hostname}: {info.cpu_count} CPUs, {info.memory_mib} MiB")
    for warning in info.warnings:
        click.echo(f"Note: {warning}")


# -- image -----------------------------------------------------------------------------------------------------


@main.group()
def image() -> None:
    """The images that VMs are made from."""


@image.command("list")
@click.option("--host", "host_name", default="local", show_default=True)
def image_list(host_name: str) -> None:
    """List the images of a host, read from it now."""

    async def work() -> list[tuple[str, ...]]:
        async with opened() as services:
            row = await services.hosts.get(host_name)
            found = await services.images.read(row)
            return [(item.name, item.key, item.format, f"{item.virtual_gib:g} GiB", item.title) for item in found]

    table(("NAME", "FILE", "FORMAT", "DISK", "TITLE"), run(work))


@image.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", "host_name", default="local", show_default=True, help="A host on this machine.")
@click.option("--name", help="What os_name will match; default: the file's name.")
@click.option("--user", default="root", show_default=True, help="The user whose password is set on first boot.")
def image_add(file: Path, host_name: str, name: str | None, user: str) -> None:
    """Copy the disk image FILE into the images folder of a host on this machine."""

    async def work() -> str:
        async with opened() as services:
            row = await services.hosts.get(host_name)
            return (
                await services.images.add(actor(), row, file, name or Path(unpacked_name(file.name)).stem, user)
            ).name

    click.echo(f"Added {run(work)}.")


@image.command("build-demo")
@click.option("--host", "host_name", default="local", show_default=True, help="A host on this machine.")
def image_build_demo(host_name: str) -> None:
    """Build the demo image from Debian packages (about a minute) and add it to a host on this machine."""

    async def work() -> str:
        async with opened() as services:
            row = await services.hosts.get(host_name)
            return (await services.images.build_demo(actor(), row)).name

    click.echo(f"Built {run(work)}.")


# -- config ----------------------------------------------------------------------------------------------------


@main.group()
def config() -> None:
    """The saved configuration: hosts, VMs and the token."""


@config.command("save")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def config_save(file: Path | None) -> None:
    """Save to FILE (default: configuration.json in the data folder). Secrets in it stay encrypted."""

    async def work() -> Path:
        async with opened() as services:
            return await services.configuration.save(actor(), file)

    click.echo(f"Saved {run(work)}.")


@config.command("load")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def config_load(file: Path | None) -> None:
    """Load from FILE: everything in it or, when something is wrong, nothing. Restart a running panel afterwards."""

    async def work() -> Any:
        async with opened() as services:
            outcome = await services.configuration.load(actor(), file)
            await services.observer.stop()
            return outcome

    outcome = run(work)
    click.echo(f"Loaded {outcome.hosts} hosts and {outcome.vms} VMs.")
