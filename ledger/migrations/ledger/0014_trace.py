"""Where in a trace a task was submitted."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE tasks ADD COLUMN trace CHAR(55) CHARACTER SET ascii COLLATE ascii_bin NULL AFTER webhook"
    )
