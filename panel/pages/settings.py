"""The panel's own settings: access token, saved configuration, and what this is. The API's reader."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed
from typing import Any

from quart import Response

from panel import __version__, web
from panel.errors import PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models.database import product
from panel.pages.forms import Form
from panel.pages.shared import done, form_data, get, page, post
from panel.pages.words import FIELDS, engine_word, say
from panel.security import Actor
from panel.services.processes import processes


def settings_path() -> str:
    """The settings' page."""
    return web.url("pages.settings")


@get("/settings", "settings")
async def settings_page(_actor: Actor) -> Response:
    """Token, configuration, about."""
    return await _settings_page(Form(None))


async def _settings_page(form: Form, *, status: int = 200, **context: Any) -> Response:
    services = web.services()
    about = [
        (gettext(_("Version")), f"OpenIDCS Panel {__version__}"),
        (gettext(_("Python")), platform.python_version()),
        (gettext(_("Web framework")), f"Quart {installed('quart')}"),
        (gettext(_("Database")), product(services.settings.database)),
        (gettext(_("Data folder")), str(services.settings.data_folder.resolve())),
        (gettext(_("Engines")), ", ".join(engine_word(kind) for kind in services.hosts.engines)),
    ]
    path = services.configuration.path
    values: dict[str, Any] = {"form": form, "new_token": None, "about": about, "saved_as": path.name,
                              "processes": await processes(services.nodes)} | context  # fmt: skip
    return await page("pages/settings/settings.html", status=status, here=settings_path(), **values)


@post("/settings/token", "token_set", settings_path)
async def token_set(actor: Actor) -> Response:
    """Replace the access token by one that was typed."""
    form = Form(await form_data(), labels=FIELDS)
    try:
        await web.services().access.set_token(actor, form.secret("token").strip())
    except PanelError as error:
        form.take(error, ("token",))
        return await _settings_page(form, status=400)
    return done(settings_path(), gettext(_("The access token was replaced. Every other login has ended.")))


@post("/settings/token/reset", "token_reset", settings_path)
async def token_reset(actor: Actor) -> Response:
    """Replace the access token by a random one, which is shown in this answer and nowhere else."""
    token = await web.services().access.reset_token(actor)
    return await _settings_page(Form(None), new_token=token)


@post("/settings/configuration/save", "config_save", settings_path)
async def config_save(actor: Actor) -> Response:
    """Write the configuration to its file."""
    path = await web.services().configuration.save(actor)
    return done(settings_path(), say(_("Saved the configuration as {name}."), name=path.name))


@post("/settings/configuration/load", "config_load", settings_path)
async def config_load(actor: Actor) -> Response:
    """Read the configuration from its file."""
    outcome = await web.services().configuration.load(actor)
    message = _(
        "Loaded {hosts} hosts and {vms} VMs. {kept_hosts} hosts and {kept_vms} VMs that the file does not name stay."
    )
    counts = {
        "hosts": outcome.hosts,
        "vms": outcome.vms,
        "kept_hosts": outcome.kept_hosts,
        "kept_vms": outcome.kept_vms,
    }
    return done(settings_path(), say(message, **counts))


@get("/docs", "docs")
async def docs(_actor: Actor) -> Response:
    """The API's description, to read and to try."""
    prefix = web.services().settings.base_path
    return await page("pages/docs/docs.html", spec_url=f"{prefix}/openapi.json")
