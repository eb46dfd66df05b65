"""What Alembic runs: the connection and the name of the version table come from `ledger.schema`."""

from alembic import context

with_connection = context.config.attributes["connection"]
context.configure(connection=with_connection, version_table=context.config.attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
