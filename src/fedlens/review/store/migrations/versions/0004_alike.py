"""An index of the cases by their image, by which a person may know the answer of another one."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("cases_digest", "cases", ["digest"])
