"""The panel's settings: one frozen object, from ``PANEL_*`` variables over an optional ``panel.toml`` in the data folder.

Every field documents itself here; ``docs/settings.md`` is held against this module by a test.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_type_hints

from panel.errors import ConfigError
from panel.i18n import DEFAULT_LANGUAGE, LANGUAGES


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the panel lives and how it serves.

    Attributes:
        data_folder: database, key file, saved configuration. Default: ``data``.
        host: address to listen on. Default: ``127.0.0.1``; ``0.0.0.0`` opens it to the network.
        port: port to listen on. Default: ``1880``.
        base_path: sub-path behind a reverse proxy, such as ``/panel``. Default: empty.
        public_url: the URL people type, used for console URLs; empty takes it from the request. Default: empty.
        trusted_proxies: comma-separated addresses whose ``X-Forwarded-*`` headers are believed. Default: empty.
        database_url: Tortoise URL; empty means ``panel.sqlite3`` in the data folder. Default: empty.
        machine: name of this machine among several that serve over one PostgreSQL; empty is its machine-id. Default: empty.
        local_host: register this machine as host ``local`` at start when there is no host of that name. Default: ``false``.
        disks_path: where host ``local`` keeps VM disks. Default: ``/var/lib/openidcs/disks``.
        images_path: where host ``local`` keeps images. Default: ``/var/lib/openidcs/images``.
        images_largest_gib: how large an image may be that is downloaded or uploaded. Default: ``100``.
        images_virtual_gib: how large the disk in it may be. Default: ``2048``.
        images_networks: private networks that images may be downloaded from, as in ``192.168.0.0/16, fd00::/8``. Default: empty.
        proxy: serve VMs under domains with Caddy. Default: ``false``.
        proxy_run: start Caddy when nobody runs it; ``false`` where a service does. Default: ``true``.
        proxy_http_port: where Caddy listens for http. Default: ``80``.
        proxy_https_port: where Caddy listens for https. Default: ``443``.
        acme_directory: the ACME directory; empty is Let's Encrypt, ``internal`` an authority of Caddy's own. Default: empty.
        acme_roots: PEM file of the authority behind the ACME directory's own TLS; empty is the system's. Default: empty.
        acme_email: the address that the certificate authority is told. Default: empty.
        fake_engine: offer the in-memory engine, for demonstrations and tests. Default: ``false``.
        observe_seconds: time between two rounds of observation of a host. Default: ``5``.
        observe_timeout: a host whose answers of one round take longer, together, is shown as unreachable. Default: ``20``.
        console_relay: carry screens in a process of their own, which does not wait for the panel. Default: ``true``.
        session_hours: how long a login lasts without use. Default: ``12``.
        login_attempts: failed logins from one address before it has to wait. Default: ``5``.
        login_wait: how long it has to wait, in seconds. Default: ``300``.
        language: how who asks in no language of the panel, as most programs do, is answered: ``en`` or ``zh``. Default: ``en``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``. Default: ``info``.
        debug: developers' pages and tracebacks on the terminal. Default: ``false``.
    """

    data_folder: Path = Path("data")
    host: str = "127.0.0.1"
    port: int = 1880
    base_path: str = ""
    public_url: str = ""
    trusted_proxies: str = ""
    database_url: str = ""
    machine: str = ""
    local_host: bool = False
    disks_path: str = "/var/lib/openidcs/disks"
    images_path: str = "/var/lib/openidcs/images"
    images_largest_gib: int = 100
    images_virtual_gib: int = 2048
    images_networks: str = ""
    proxy: bool = False
    proxy_run: bool = True
    proxy_http_port: int = 80
    proxy_https_port: int = 443
    acme_directory: str = ""
    acme_roots: str = ""
    acme_email: str = ""
    fake_engine: bool = False
    observe_seconds: float = 5.0
    observe_timeout: float = 20.0
    console_relay: bool = True
    session_hours: float = 12.0
    login_attempts: int = 5
    login_wait: int = 300
    language: str = DEFAULT_LANGUAGE
    log_level: str = "info"
    debug: bool = False

    @property
    def database(self) -> str:
        """The URL Tortoise gets."""
        return self.database_url or f"sqlite://{self.data_folder.resolve() / 'panel.sqlite3'}"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        ConfigError: a value of the wrong type, an unknown key in ``panel.toml``, or a file that is not TOML.
    """
    environment = os.environ if environment is None else environment
    folder = Path(environment.get("PANEL_DATA_FOLDER", "data"))
    values = _read_file(folder / "panel.toml")
    values["data_folder"] = folder
    for item in fields(Settings):
        variable = f"PANEL_{item.name.upper()}"
        if environment.get(variable):
            values[item.name] = environment[variable]
    kinds = get_type_hints(Settings)
    settings = Settings(**{name: _convert(name, value, kinds[name]) for name, value in values.items()})
    _check(settings)
    return settings


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("{path} is not valid TOML: {reason}.", path=path.name, reason=error) from error
    unknown = sorted(set(values) - {item.name for item in fields(Settings)})
    if unknown:
        raise ConfigError("{path} has unknown settings: {names}.", path=path.name, names=", ".join(unknown))
    return values


def _convert(name: str, value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() in {"1", "true", "yes", "on"}:
            return True
        if value.lower() in {"0", "false", "no", "off"}:
            return False
        raise ConfigError("Setting {name} must be true or false.", name=name)
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise ConfigError("Setting {name} must be of type {kind}.", name=name, kind=kind.__name__) from error


def _check(settings: Settings) -> None:
    for name in ("port", "proxy_http_port", "proxy_https_port"):
        if not (0 if name == "port" else 1) <= getattr(settings, name) <= 65535:
            raise ConfigError("Setting {name} must be between 0 and 65535.", name=name)
    if settings.acme_directory not in {"", "internal"} and not settings.acme_directory.startswith("https://"):
        raise ConfigError("Setting acme_directory must be an https:// address, internal, or empty.")
    if settings.base_path and (not settings.base_path.startswith("/") or settings.base_path.endswith("/")):
        raise ConfigError("Setting base_path must start with / and not end with it, as in /panel.")
    if settings.language not in LANGUAGES:
        raise ConfigError("Setting language must be {known}.", known=" or ".join(LANGUAGES))
    if settings.log_level not in {"debug", "info", "warning", "error"}:
        raise ConfigError("Setting log_level must be debug, info, warning or error.")
    for network in settings.images_networks.replace(",", " ").split():
        try:
            ip_network(network)
        except ValueError as error:
            raise ConfigError("Setting images_networks: {network} is no network.", network=network) from error
    for name in (
        "images_largest_gib",
        "images_virtual_gib",
        "observe_seconds",
        "observe_timeout",
        "session_hours",
        "login_attempts",
        "login_wait",
    ):
        if not 0 < getattr(settings, name) < 1e9:  # not a number is neither
            raise ConfigError("Setting {name} must be above 0.", name=name)
