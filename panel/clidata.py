"""``openidcs backup | restore | migrate-to``: all that the database has, as a file or in another database."""

from __future__ import annotations

from pathlib import Path

import click

from panel.clikit import run
from panel.security import KEY_FILE
from panel.services import backups
from panel.settings import load_settings


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--with-key", is_flag=True, help=f"Put {KEY_FILE} into it: who has the file then has all secrets.")
def backup_command(file: Path, with_key: bool) -> None:
    """Write everything in the database to FILE, also while the panel runs: one moment of it.

    Secrets in FILE stay encrypted. Keep a copy of secret.key of the data folder apart from it: nothing else opens them.
    """
    copied = run(lambda: backups.backup(load_settings(), file, with_key=with_key))
    click.echo(f"Saved {copied.rows} rows of {copied.tables} tables to {file}.")
    if not with_key:
        click.echo(f"Keep a copy of {KEY_FILE} apart from it: without that file its secrets cannot be read.")


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore_command(file: Path, yes: bool) -> None:
    """Replace everything in the database by what FILE has. Stop the panel first. Logins end; VMs are left alone."""
    if not yes:
        click.confirm("Everything in the database is replaced. Go on?", abort=True)
    copied = run(lambda: backups.restore(load_settings(), file))
    click.echo(f"Restored {copied.rows} rows of {copied.tables} tables.")


@click.command("migrate-to")
@click.argument("url")
def migrate_to_command(url: str) -> None:
    """Copy everything to the empty database at URL, and compare it row by row. Stop the panel first."""
    copied = run(lambda: backups.migrate_to(load_settings(), url))
    click.echo(f"Copied and compared {copied.rows} rows of {copied.tables} tables.")
    click.echo("Set database_url (PANEL_DATABASE_URL) to it and start the panel.")


COMMANDS = (backup_command, restore_command, migrate_to_command)
