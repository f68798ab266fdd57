"""What Alembic runs: the migrations, in the transaction of whoever opens the store."""

from alembic import context
from sqlalchemy import Connection

from fedlens.review.store.tables import METADATA

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
)
context.run_migrations()
