"""Tags of tasks."""

from alembic import op

revision = "0010"
down_revision = "0009"

COLUMN = "ALTER TABLE tasks ADD COLUMN tags JSON NULL AFTER parameters"

TASK_TAGS = """
CREATE TABLE task_tags (
    task_id CHAR(36)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    tag     VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner   VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (task_id, tag),
    KEY ix_task_tags_tag (tag, task_id),
    KEY ix_task_tags_owner (owner, tag, task_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (COLUMN, TASK_TAGS):
        op.execute(statement)
