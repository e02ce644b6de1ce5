"""Lists: searched, filtered, sorted and cut into pages by the database; the address says how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from quart import request
from tortoise.models import Model
from tortoise.queryset import QuerySet

from panel import web

SIZES = (25, 50, 100)
LAST_PAGE = 1_000_000
M = TypeVar("M", bound=Model)


@dataclass(slots=True)
class Listing:
    """How a list is looked at. ``filters`` hold what the address says, cleaned.

    Attributes:
        page: from 1 to ``pages``.
        size: rows on a page, one of ``SIZES``.
        sort: a key of the list's own; ``dir`` is ``asc`` or ``desc``.
        usual: the size that the address need not name.
        kept: what else of the address its links keep.
    """

    endpoint: str
    sort: str = ""
    dir: str = "asc"
    page: int = 1
    size: int = SIZES[0]
    usual: int = SIZES[0]
    total: int = 0
    filters: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    default: tuple[str, str] = ("", "asc")
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def pages(self) -> int:
        """How many pages there are, at least 1."""
        return max(1, -(-self.total // self.size))

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return any(self.filters.values())

    @property
    def plain(self) -> bool:
        """Whether this is the first page of everything, as it comes."""
        return not self.filtered and self.page == 1 and (self.sort, self.dir) == self.default

    def url(self, **changes: Any) -> str:
        """The list's address with changes; what is as usual is left out."""
        values: dict[str, Any] = {key: value for key, value in self.filters.items() if value}
        values |= self.kept
        if self.size != self.usual:
            values["size"] = self.size
        if (self.sort, self.dir) != self.default:
            values |= {"sort": self.sort, "dir": self.dir}
        if self.page > 1:
            values["page"] = self.page
        values |= changes
        if values.get("page") == 1:
            del values["page"]
        if (values.get("sort", self.sort), values.get("dir", self.dir)) == self.default:
            values.pop("sort", None)
            values.pop("dir", None)
        return web.url(self.endpoint, **self.values, **values)

    @property
    def sized_url(self) -> str:
        """The address of the first page, of the usual size and with nothing else kept."""
        return self.url(page=1, size=None, **dict.fromkeys(self.kept))

    def page_url(self, number: int) -> str:
        """The address of a page."""
        return self.url(page=number)

    def sort_url(self, key: str, direction: str) -> str:
        """The address of the list sorted otherwise, from its first page on."""
        return self.url(sort=key, dir=direction, page=1)

    def size_url(self, size: int) -> str:
        """The address of the list with pages of another size."""
        return self.url(size=size, page=1)

    async def cut(self, query: QuerySet[M], columns: Mapping[str, tuple[str, ...]]) -> QuerySet[M]:
        """Count, sort and cut. ``columns`` gives for each sort key the columns to order by."""
        self.total = await query.count()
        self.page = min(self.page, self.pages)
        sign = "-" if self.dir == "desc" else ""
        first, *others = columns[self.sort]
        return query.order_by(sign + first, *others).offset((self.page - 1) * self.size).limit(self.size)


def listing(
    endpoint: str,
    sorts: Mapping[str, object],
    default: tuple[str, str],
    filters: tuple[str, ...] = (),
    usual: int = SIZES[0],
) -> Listing:
    """Read the address. What makes no sense there counts as not given: a bookmark never breaks. ``usual``: the size of a
    page when the address says none."""
    sort, direction = request.args.get("sort", ""), request.args.get("dir", "")
    if sort not in sorts:
        sort, direction = default
    return Listing(
        endpoint,
        sort=sort,
        dir=direction if direction in {"asc", "desc"} else "asc",
        page=max(1, _number(request.args.get("page"), 1)),
        size=size if (size := _number(request.args.get("size"), usual)) in SIZES else usual,
        usual=usual,
        filters={name: request.args.get(name, "").strip()[:200] for name in filters},
        default=default,
    )


def _number(text: str | None, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return otherwise
    return min(int(text), LAST_PAGE)
