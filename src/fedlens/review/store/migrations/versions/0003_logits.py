"""The logits of a case, which a decision records while the model is stopped too."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Of cases that came in before it the logits are not known."""
    op.add_column("cases", sa.Column("logits", sa.Text(), nullable=True))
