"""Many rows of plain values, read column by column."""

from __future__ import annotations

from typing import Any

from tortoise.queryset import ValuesListQuery


async def plain_rows(query: ValuesListQuery[Any]) -> list[tuple[Any, ...]]:
    """As ``await query`` of a ``values_list`` that is neither flat nor of one row, for less.

    Tortoise looks up each value of each row by its column's name, and calls what turns it into Python's from there.
    """
    query._choose_db_if_not_chosen()
    query._make_query()
    _count, rows = await query._db.execute_query(*query.query.get_parameterized_sql())
    turns = [query.resolve_to_python_value(query.model, name) for name in query.fields.values()]
    columns = zip(*map(tuple, rows), strict=True)
    return list(zip(*(map(turn, column) for turn, column in zip(turns, columns, strict=False)), strict=True))
