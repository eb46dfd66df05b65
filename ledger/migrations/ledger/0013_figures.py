"""Running totals of what happened to tasks, and what the leading monitor last counted."""

from alembic import op

revision = "0013"
down_revision = "0012"

TALLIES = """
CREATE TABLE tallies (
    what     VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    subject  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    priority VARCHAR(8)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    upto_ms  INT         NOT NULL,
    number   BIGINT      NOT NULL DEFAULT 0,
    seconds  DOUBLE      NOT NULL DEFAULT 0,
    PRIMARY KEY (what, subject, priority, upto_ms)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

FIGURES = """
CREATE TABLE figures (
    name       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    subject    VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    value      DOUBLE      NOT NULL,
    counted_at DATETIME(6) NOT NULL,
    PRIMARY KEY (name, subject)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (TALLIES, FIGURES):
        op.execute(statement)
