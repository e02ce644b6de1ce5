"""What every command of the command line needs: the services, one line for an error, columns."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from getpass import getuser
from typing import TypeVar

import click
import structlog

from panel.app import build_services
from panel.errors import PanelError
from panel.models.database import close_database, migrate, open_database
from panel.security import Actor, Source
from panel.services.container import Services
from panel.settings import load_settings

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command; an error of the panel becomes one line and exit code 1."""
    structlog.configure(  # standard output is for what was asked
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        return asyncio.run(_awaited(work))
    except PanelError as error:
        raise click.ClickException(str(error)) from error


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def actor() -> Actor:
    """Who types."""
    try:
        name = getuser()
    except (KeyError, OSError):
        name = "cli"
    return Actor(name[:64], Source.CLI)


@asynccontextmanager
async def opened() -> AsyncIterator[Services]:
    """The services over an open, current database; nothing is observed and no task is recovered."""
    settings = load_settings()
    services = build_services(settings)
    await migrate(settings.database)
    await open_database(settings.database)
    try:
        await services.access.ensure_token()
        if services.relay is not None:  # the processes that serve hear of what is done here
            await services.relay.start()
        yield services
    finally:
        if services.relay is not None:
            await services.relay.stop()
        await services.pool.close()
        await close_database()


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
