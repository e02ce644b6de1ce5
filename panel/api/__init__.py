"""The JSON API, as ``API.zh.md`` says it: one module per area of the document."""

from quart import Blueprint

from panel.api import client, metrics, network, networks, proxies, published, server, system

blueprint = Blueprint("api", __name__)
for area in (system, server, client, metrics, network, networks, proxies, published):
    area.register(blueprint)
