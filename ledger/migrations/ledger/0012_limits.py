"""Limits on what runs at once and starts within a minute, and the lines before them."""

from alembic import op

revision = "0012"
down_revision = "0011"

LIMITS = """
CREATE TABLE limits (
    subject           VARCHAR(8)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name              VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    most_running      INT         NULL,
    starts_per_minute INT         NULL,
    created_at        DATETIME(6) NOT NULL,
    changed_at        DATETIME(6) NOT NULL,
    PRIMARY KEY (subject, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

STARTS = """
CREATE TABLE limit_starts (
    subject VARCHAR(8)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot    SMALLINT    NOT NULL,
    second  BIGINT      NOT NULL,
    starts  INT         NOT NULL,
    PRIMARY KEY (subject, name, slot)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

WAITS = """
CREATE TABLE limit_waits (
    task_id       CHAR(36)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    subject       VARCHAR(8)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    priority_rank SMALLINT    NOT NULL,
    admitted_at   DATETIME(6) NULL,
    PRIMARY KEY (task_id),
    KEY ix_limit_waits_line (subject, name, admitted_at, priority_rank, task_id),
    KEY ix_limit_waits_admitted (admitted_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (LIMITS, STARTS, WAITS):
        op.execute(statement)
