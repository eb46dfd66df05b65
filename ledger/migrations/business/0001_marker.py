"""The marker that begins every branch, and the table that the bulk insert fills."""

from alembic import op

revision = "0001"
down_revision = None

MARKER = """
CREATE TABLE sluice_marker (
    task_id      CHAR(36)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt      INT         NOT NULL,
    changed_rows BIGINT      NOT NULL DEFAULT 0,
    at           DATETIME(6) NOT NULL,
    PRIMARY KEY (task_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

#: It may be there already, in a database that an application brings along.
DATA = """
CREATE TABLE IF NOT EXISTS data (
    id     BIGINT      NOT NULL AUTO_INCREMENT,
    field1 VARCHAR(50) NULL,
    field2 VARCHAR(50) NULL,
    PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (MARKER, DATA):
        op.execute(statement)
