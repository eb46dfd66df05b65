"""Which monitor leads."""

from alembic import op

revision = "0002"
down_revision = "0001"

LEADERSHIP = """
CREATE TABLE leadership (
    name        VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    term        BIGINT       NOT NULL DEFAULT 0,
    holder      VARCHAR(128) NULL,
    lease_until DATETIME(6)  NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

#: Every claim is an UPDATE of this one row.
FIRST = "INSERT INTO leadership (name, lease_until) VALUES ('monitor', UTC_TIMESTAMP(6))"


def upgrade() -> None:
    for statement in (LEADERSHIP, FIRST):
        op.execute(statement)
