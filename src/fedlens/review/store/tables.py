"""The tables of a store, the same on SQLite and PostgreSQL.

``records`` is the trail and the truth. ``cases``, ``decisions`` and ``worked`` follow from it, so that
pages are fast; verification compares them. A change here needs a migration.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")

HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store", Text, nullable=False),
    Column("count", NUMBER, nullable=False),
    Column("digest", Text, nullable=False),
    Column("seals", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("next_case", NUMBER, nullable=False),
)

RECORDS = Table(
    "records",
    METADATA,
    Column("sequence", NUMBER, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("case", NUMBER),
    Column("content", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Index("records_case", "case", "sequence"),
    Index("records_kind", "kind", "sequence"),
    Index("records_actor", "actor", "sequence"),
)

CASES = Table(
    "cases",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("predicted", Integer, nullable=False),
    Column("probabilities", Text, nullable=False),
    Column("need", Double, nullable=False),
    Column("signals", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("queued", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("assignee", Text),
    Column("lease_until", Double),
    Column("deferred_by", Text),
    Column("label", Integer),
    Column("decision", NUMBER),
    Column("added", Double, nullable=False),
    Column("record", NUMBER, nullable=False),
    Column("logits", Text),
)
# each begins with what is asked for and ends with what makes it enough by itself
_BY_NEED = (CASES.c.need.desc(), CASES.c.number)
Index("cases_need", CASES.c.queued, *_BY_NEED, CASES.c.flags)
Index("cases_state", CASES.c.queued, CASES.c.state, *_BY_NEED, CASES.c.flags)
Index("cases_predicted", CASES.c.queued, CASES.c.predicted, CASES.c.state, *_BY_NEED, CASES.c.flags)
Index("cases_assignee", CASES.c.assignee, *_BY_NEED, CASES.c.state, CASES.c.queued)
Index("cases_lease", CASES.c.state, CASES.c.lease_until)
Index("cases_record", CASES.c.record)
Index("cases_digest", CASES.c.digest)
Index("cases_source", CASES.c.source, CASES.c.digest)

WORKED = Table(
    "worked",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("mark", Text, nullable=False),
    Column("record", NUMBER, nullable=False),
    Index("worked_mark", "mark"),
    Index("worked_record", "record"),
)
"""Cases that were decided and have gone with their decision; see :mod:`~.worked`."""

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("sequence", NUMBER, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("case", NUMBER, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("predicted", Integer, nullable=False),
    Column("label", Integer),
    Column("choice", Text, nullable=False),
    Column("reason", Text),
    Column("misleading", Boolean, nullable=False),
    Column("blind_label", Integer),
    Column("revealed", Boolean, nullable=False),
    Column("seconds", Double),
    Column("model", Text),
    Column("undone_by", NUMBER),
    Index("decisions_case", "case", "sequence"),
    Index("decisions_reviewer", "reviewer", "sequence"),
    Index("decisions_undone", "undone_by"),
)

PEOPLE = Table(
    "people",
    METADATA,
    Column("folded", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("token", Boolean, nullable=False),
    Column("secret", Text, nullable=False),
    Column("added", Double, nullable=False),
    Column("record", NUMBER, nullable=False),
    Column("seal", Text, nullable=False),
    Index("people_secret", "secret"),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("secret", Text, primary_key=True),
    Column("folded", Text, nullable=False),
    Column("link", Boolean, nullable=False),
    Column("began", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("seal", Text, nullable=False),
    Index("sessions_folded", "folded"),
)
