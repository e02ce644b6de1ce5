"""The panel's processes as people see them: who serves, since when, and who watches how many hosts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from tortoise import connections

from panel.models import Host
from panel.services.clock import now
from panel.services.nodes import Nodes


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process of several over PostgreSQL.

    Attributes:
        address: where it listens: the name of its machine, and its port.
        machine: what tells its machine from others (``PANEL_MACHINE``, else its machine-id).
        seen_at: when it last renewed its row; its age is by the database's clock.
        hosts: how many it watches.
        here: it is the one that answers.
        tidies: it does what one process does for all.
    """

    address: str
    machine: str
    pid: int
    started_at: datetime
    seen_at: datetime
    hosts: int
    here: bool
    tidies: bool


async def processes(nodes: Nodes) -> list[ProcessView]:
    """All that live or are not buried yet, the oldest first. Empty with SQLite: there is one, which does everything."""
    if nodes.id is None:
        return []
    rows = await connections.get("default").execute_query_dict(
        "SELECT id, address, machine, pid, started_at, clock_timestamp() - beat_at AS age "
        "FROM process_node ORDER BY started_at, id"
    )
    watched = Counter(await Host.filter(owner__not_isnull=True).values_list("owner", flat=True))
    moment = now()
    return [
        ProcessView(
            address=row["address"],
            machine=row["machine"],
            pid=row["pid"],
            started_at=row["started_at"],
            seen_at=moment - row["age"],
            hosts=watched[row["id"]],
            here=row["id"] == nodes.id,
            tidies=number == 0,
        )
        for number, row in enumerate(rows)
    ]
