"""What a proxy shall serve, as a configuration of Caddy. Source: Caddy's JSON structure, as of version 2.6.

Nothing is left to Caddy's automatic HTTPS, which guesses from the routes: who gets a certificate, from whom, and what redirects
is written out here.
"""

from __future__ import annotations

from typing import Any

from panel.gateways.caddy.files import Files
from panel.gateways.sites import Site, SiteWish

ORIGIN = "openidcs"  # the Host that the admin API takes
INTERNAL = "internal"
UNKNOWN_NAME = "No such site.\n"  # with 421 (RFC 9110, 15.5.20), which no guest says: the panel's probes tell it apart


def issued(site: Site, wish: SiteWish) -> bool:
    """Whether Caddy gets the certificate itself. A wildcard has to be proven in the DNS (RFC 8555, 8.4), which nobody does here:
    only the internal authority issues one."""
    return site.tls and site.key_pair is None and (wish.issuer == INTERNAL or not site.domain.startswith("*."))


def render(wish: SiteWish, files: Files) -> dict[str, Any]:
    """The whole configuration. The same wish gives the same; no sites, no servers."""
    config: dict[str, Any] = {
        # not persisted: uploaded keys would lie on the disk in the clear
        "admin": {"listen": f"unix/{files.admin.absolute()}", "origins": [ORIGIN], "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(files.storage.absolute())},
        "logging": {"logs": {"default": _log(files)}},
    }
    if wish.sites:
        config["apps"] = {"http": _http(wish, files), "tls": _tls(wish), "pki": _pki()}
    return config


def _log(files: Files) -> dict[str, Any]:
    writer = {"output": "file", "filename": str(files.log.absolute()), "roll_size_mb": 8, "roll_keep": 2}
    return {"writer": writer, "encoder": {"format": "json"}, "level": "INFO", "exclude": ["admin.api"]}


def _pki() -> dict[str, Any]:
    """The internal authority stays out of the machine's own trust."""
    return {"certificate_authorities": {"local": {"install_trust": False}}}


def _http(wish: SiteWish, files: Files) -> dict[str, Any]:
    plain = [_redirect(site, wish) if site.tls else _proxy(site) for site in _by_precedence(wish)]
    servers = {"http": _server([f":{wish.http_port}"], plain)}
    secure = [_proxy(site) for site in _by_precedence(wish) if site.tls]
    if secure:
        servers["https"] = _server([f":{wish.https_port}", f"unix/{files.https.absolute()}"], secure) | {
            "tls_connection_policies": [{}],
            "strict_sni_host": True,
        }
    return {"http_port": wish.http_port, "https_port": wish.https_port, "servers": servers}


def _server(listen: list[str], routes: list[dict[str, Any]]) -> dict[str, Any]:
    nobody = {"handle": [{"handler": "static_response", "status_code": 421, "body": UNKNOWN_NAME}]}
    return {
        "listen": listen,
        "protocols": ["h1", "h2"],
        "automatic_https": {"disable": True},
        "read_header_timeout": "15s",
        "idle_timeout": "5m",
        "routes": [*routes, nobody],
    }


def _by_precedence(wish: SiteWish) -> list[Site]:
    """The first route that fits serves: a name before the wildcard that it is below."""
    return sorted(wish.sites, key=lambda site: (site.domain.startswith("*."), site.domain))


def _route(site: Site, handler: dict[str, Any]) -> dict[str, Any]:
    return {"match": [{"host": [site.domain]}], "handle": [handler], "terminal": True}


def _proxy(site: Site) -> dict[str, Any]:
    """Nothing is buffered: uploads, streams and websockets pass as they come. No ``flush_interval``: Caddy flushes streams by
    itself, and with one a reload cuts the requests that are under way."""
    address = f"[{site.target_ip}]" if ":" in site.target_ip else site.target_ip
    return _route(
        site,
        {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": f"{address}:{site.target_port}"}],
            "transport": {"protocol": "http", "dial_timeout": "5s"},
        },
    )


def _redirect(site: Site, wish: SiteWish) -> dict[str, Any]:
    """To https, with the method kept (RFC 9110, 15.4.9). ACME's own requests are answered before routes are asked."""
    port = "" if wish.https_port == 443 else f":{wish.https_port}"
    location = f"https://{{http.request.host}}{port}{{http.request.uri}}"
    return _route(site, {"handler": "static_response", "status_code": 308, "headers": {"Location": [location]}})


def _tls(wish: SiteWish) -> dict[str, Any]:
    names = [site.domain for site in wish.sites if issued(site, wish)]
    pairs = [
        {"certificate": site.key_pair.chain, "key": site.key_pair.private_key}
        for site in wish.sites
        if site.tls and site.key_pair is not None
    ]
    tls: dict[str, Any] = {"certificates": {}}
    if names:
        tls["certificates"]["automate"] = names
        tls["automation"] = {"policies": [{"subjects": names, "issuers": [_issuer(wish)]}]}
    if pairs:
        tls["certificates"]["load_pem"] = pairs
    return tls


def _issuer(wish: SiteWish) -> dict[str, Any]:
    if wish.issuer == INTERNAL:
        return {"module": "internal"}
    issuer: dict[str, Any] = {"module": "acme"}
    if wish.issuer:
        issuer["ca"] = wish.issuer
    if wish.email:
        issuer["email"] = wish.email
    if wish.issuer_roots:
        issuer["trusted_roots_pem_files"] = [wish.issuer_roots]
    # where the outside's ports 80 and 443 lead to
    issuer["challenges"] = {
        "http": {"alternate_port": wish.http_port},
        "tls-alpn": {"alternate_port": wish.https_port},
    }
    return issuer
