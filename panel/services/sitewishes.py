"""What the database wants one machine's proxy to serve, as one ``SiteWish``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from panel.errors import ConfigError
from panel.gateways.sites import KeyPair, Site, SiteWish
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Proxy
from panel.security import SecretBox
from panel.services.targets import read_targets
from panel.settings import Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a machine's proxy shall serve.

    Attributes:
        rows: all its domains, with ``vm``, ``host`` and ``certificate``.
        left_out: those that cannot be served, and why, by id.
        moved: those that lead elsewhere since now, each with its old address.
    """

    wish: SiteWish
    rows: Sequence[Proxy]
    left_out: Mapping[int, Text]
    moved: Sequence[tuple[Proxy, str]]


async def read_wanted(host_ids: Sequence[int], settings: Settings, box: SecretBox, *, imaginary: bool) -> Wanted:
    """All domains of the hosts that are one machine. One whose VM has another address than before follows it, in the database
    too; one whose VM has none is left out."""
    empty = SiteWish(
        (), settings.proxy_http_port, settings.proxy_https_port, settings.acme_directory, settings.acme_email,
        settings.acme_roots,
    )  # fmt: skip
    rows = await Proxy.filter(host_id__in=host_ids).order_by("id").prefetch_related("vm", "host", "certificate")
    if not rows:
        return Wanted(empty, (), {}, ())
    targets = await read_targets({row.vm_id for row in rows}, host_ids, imaginary=imaginary)
    sites: list[Site] = []
    left_out: dict[int, Text] = {}
    moved: list[tuple[Proxy, str]] = []
    for row in rows:
        target = targets.now(row.vm_id, row.target_ip)
        if target is None:
            params = {"name": row.vm.name, "address": row.target_ip}
            left_out[row.id] = Text(
                _("VM {name} does not have {address} any more, and no other address. It is served when it has one."),
                params,
            )
            continue
        if target != row.target_ip:
            moved.append((row, row.target_ip))
            row.target_ip = target
            await Proxy.filter(id=row.id).update(target_ip=target)
        try:
            pair = _key_pair(row, box)
        except ConfigError as error:
            left_out[row.id] = error.text
        else:
            sites.append(Site(row.domain, target, row.target_port, row.ssl, pair))
    return Wanted(replace(empty, sites=tuple(sites)), rows, left_out, moved)


def _key_pair(row: Proxy, box: SecretBox) -> KeyPair | None:
    """Its uploaded certificate. ``ConfigError``: it was stored with another key file."""
    if row.certificate is None or not row.ssl:
        return None
    return KeyPair(row.certificate.chain, box.unseal(row.certificate.private_key))
