"""Queues that somebody paused."""

from alembic import op

revision = "0007"
down_revision = "0006"

QUEUES = """
CREATE TABLE queues (
    name       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    paused_at  DATETIME(6) NULL,
    reason     TEXT        NULL,
    changed_at DATETIME(6) NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    op.execute(QUEUES)
