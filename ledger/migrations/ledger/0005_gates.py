"""What may keep a task from starting: its time running out, and the tasks that it depends on."""

from alembic import op

revision = "0005"
down_revision = "0004"

COLUMNS = """
ALTER TABLE tasks
    ADD COLUMN expires_at DATETIME(6) NULL AFTER due_at,
    ADD COLUMN on_parent_failure VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'fail'
        AFTER expires_at,
    ADD KEY ix_tasks_state_expires (state, expires_at)
"""

DEPENDENCIES = """
CREATE TABLE dependencies (
    parent CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    child  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (parent, child),
    KEY ix_dependencies_child (child)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

ENDINGS = """
CREATE TABLE endings (
    parent     CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    told_until CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
    PRIMARY KEY (parent)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (COLUMNS, DEPENDENCIES, ENDINGS):
        op.execute(statement)
