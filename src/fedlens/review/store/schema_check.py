"""Whether the tables are those that the console made: their columns, what hangs on them, their head."""

from collections.abc import Iterator

from sqlalchemy import Boolean, Connection, Integer, Table, func, or_, select, text, type_coerce

from fedlens.review.store.checking import Findings
from fedlens.review.store.tables import CASES, DECISIONS, HEAD, METADATA, PEOPLE, WORKED

_ADDED = {
    "sqlite": "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')",
    "postgresql": (
        "SELECT 'trigger', t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace "
        "UNION ALL SELECT 'rule', rulename FROM pg_rules WHERE schemaname = current_schema()"
    ),
}


def check_schema(connection: Connection, findings: Findings) -> None:
    """Check that nobody changed the tables, or hung on them what changes what is written or read.

    Args:
        connection: that sees one state of the store.
        findings: are added to.
    """
    for kind, name in connection.execute(text(_ADDED[connection.dialect.name])):
        findings.add(None, "schema", f"Somebody added the {kind} '{name}' to the database.")
    for table in METADATA.sorted_tables:
        if not _is_as_made(connection, table):
            findings.add(
                None, "schema", f"Somebody made the table '{table.name}' anew, or another one."
            )
    _check_head(connection, findings)
    if connection.dialect.name == "sqlite":
        _check_booleans(connection, findings)


def _is_as_made(connection: Connection, table: Table) -> bool:
    if connection.dialect.name == "sqlite":
        there = {
            (row.name, row.type, bool(row.notnull), row.pk, row.hidden)
            for row in connection.execute(text(f"PRAGMA table_xinfo('{table.name}')"))
        }
        key = [column.name for column in table.primary_key]
        return there == {
            (
                column.name,
                column.type.compile(dialect=connection.dialect),
                not column.nullable,
                key.index(column.name) + 1 if column.name in key else 0,
                0,
            )
            for column in table.columns
        }
    kind = text(
        "SELECT relkind = 'r' AND NOT relrowsecurity FROM pg_class "
        "WHERE relnamespace = current_schema()::regnamespace AND relname = :name"
    )
    return bool(connection.execute(kind, {"name": table.name}).scalar())


def _check_head(connection: Connection, findings: Findings) -> None:
    """The head has one row; the number of the next case, which is not signed, is no one's yet."""
    if connection.execute(select(func.count()).select_from(HEAD)).scalar_one() > 1:
        findings.add(None, "head", "Somebody added another end of the chain to the store.")
    next_case = connection.execute(select(HEAD.c.next_case).where(HEAD.c.id == 1)).scalar()
    numbers = (connection.execute(select(func.max(t.c.number))).scalar() for t in (CASES, WORKED))
    last = max(number or 0 for number in numbers)
    if next_case is not None and not (isinstance(next_case, int) and next_case > last):
        findings.add(None, "head", "The number that the next case is to have was changed.")


def _check_booleans(connection: Connection, findings: Findings) -> None:
    """SQLite keeps any type in any column: what is neither 0 nor 1 is true here and false there."""
    for table in (CASES, DECISIONS, PEOPLE):
        for name, odd in _odd_booleans(connection, table):
            if odd:
                findings.add(
                    None,
                    table.name,
                    f"The column '{name}' of the table '{table.name}' has a value that is neither "
                    f"true nor false, in {odd:,} row{'s' if odd > 1 else ''}.",
                )


def _odd_booleans(connection: Connection, table: Table) -> Iterator[tuple[str, int]]:
    for column in table.columns:
        if isinstance(column.type, Boolean):
            raw = type_coerce(column, Integer)
            query = select(func.count()).select_from(table)
            odd = query.where(or_(raw.is_(None), raw.not_in((0, 1))))
            yield column.name, connection.execute(odd).scalar_one()
