"""Usage over time, on the pages of a VM and of a host: what the charts and the tables below them show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quart import request

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Vm
from panel.pages import filters
from panel.services.metrics import History, summary

SPANS = {"1h": _("1 hour"), "24h": _("24 hours"), "7d": _("7 days")}
FORMATS: dict[str, Callable[[float | None], str]] = {
    "percent": filters.percent, "mib": filters.mib, "rate": filters.rate
}  # fmt: skip
CHARTS = (
    ("cpu", _("CPU"), "percent", (("cpu_percent", _("Used")),)),
    ("memory", _("Memory"), "mib", (("memory_used_mib", _("Used")),)),
    ("disk", _("Disk"), "rate", (("disk_read_bytes_per_second", _("Read")),
                                 ("disk_write_bytes_per_second", _("Written")))),
    ("net", _("Network"), "rate", (("net_rx_bytes_per_second", _("Received")), ("net_tx_bytes_per_second", _("Sent")))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One series. ``numbers``: latest, lowest, average and highest, in the reader's way."""

    field: str
    label: str
    numbers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its table. ``top``: where the vertical axis ends; None: where the values do."""

    key: str
    title: str
    unit: str
    top: float | None
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """The card. ``spans``: key, label and address of each; ``data_url``: where the series are read."""

    span: str
    spans: tuple[tuple[str, str, str], ...]
    data_url: str
    charts: tuple[Chart, ...]
    note: str = ""


async def usage_of_vm(vm: Vm) -> Usage:
    """The card of a VM, whose host is fetched."""
    span = _span()
    path = {"host": vm.host.name, "vm": vm.name}
    return Usage(
        span=span,
        spans=tuple((key, gettext(label), web.url("pages.vm", **path, range=key)) for key, label in SPANS.items()),
        data_url=web.url("api.vm_metrics", hs_name=vm.host.name, vm_uuid=vm.name),
        charts=_charts(await web.services().metrics.of_vm(vm, span), vm.memory_mib),
    )


async def usage_of_host(host: Host) -> Usage:
    """The card of a host."""
    span = _span()
    return Usage(
        span=span,
        spans=tuple(
            (key, gettext(label), web.url("pages.host", host=host.name, range=key)) for key, label in SPANS.items()
        ),
        data_url=web.url("api.host_metrics", hs_name=host.name),
        charts=_charts(await web.services().metrics.of_host(host, span), (host.status or {}).get("memory_total_mib")),
        note=gettext(_("Disk and network are the sums of its VMs.")),
    )


def _span() -> str:
    wanted = request.args.get("range", "")
    return wanted if wanted in SPANS else "1h"


def _charts(history: History, memory_mib: float | None) -> tuple[Chart, ...]:
    tops = {"cpu": 100.0, "memory": memory_mib}
    return tuple(
        Chart(
            key,
            gettext(title),
            unit,
            tops.get(key),
            tuple(_line(history, field, label, unit) for field, label in lines),
        )
        for key, title, unit, lines in CHARTS
    )


def _line(history: History, field: str, label: str, unit: str) -> Line:
    numbers = summary(history.values[field])
    return Line(field, gettext(label), {name: FORMATS[unit](value) for name, value in numbers.items()})
