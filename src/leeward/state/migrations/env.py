"""Alembic's entry: the connection is handed in by `leeward.state.database`."""

from alembic import context

from leeward.state.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
