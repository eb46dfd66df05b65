"""The last step of an attempt, and failures that somebody dealt with."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENT = """
ALTER TABLE tasks
    ADD COLUMN last_step_at  DATETIME(6)  NULL AFTER lease_until,
    ADD COLUMN resolved_at   DATETIME(6)  NULL,
    ADD COLUMN resolved_by   VARCHAR(128) NULL,
    ADD COLUMN resolved_note TEXT         NULL
"""


def upgrade() -> None:
    op.execute(STATEMENT)
