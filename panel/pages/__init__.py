"""HTML: the panel's areas, for people. Every page works without JavaScript; with it, parts of it are replaced."""

from panel.pages import (
    auth,
    bulk,
    create,
    dashboard,
    drawer,
    filters,
    hosts,
    live,
    logs,
    network,
    networks,
    proxies,
    publications,
    published,
    settings,
    tasks,
    vms,
)
from panel.pages.shared import blueprint

__all__ = [
    "auth",
    "blueprint",
    "bulk",
    "create",
    "dashboard",
    "drawer",
    "filters",
    "hosts",
    "live",
    "logs",
    "network",
    "networks",
    "proxies",
    "publications",
    "published",
    "settings",
    "tasks",
    "vms",
]
