"""Marks of the cases whose decision was pruned, so that their images do not come back."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. What was pruned before it was made has left no mark."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "worked",
        sa.Column("number", number, autoincrement=False, nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("record", number, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("worked_mark", "worked", ["mark"])
    op.create_index("worked_record", "worked", ["record"])
