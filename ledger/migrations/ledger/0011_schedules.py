"""Schedules, and which of them submitted a task."""

from alembic import op

revision = "0011"
down_revision = "0010"

SCHEDULES = """
CREATE TABLE schedules (
    id             CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner          VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name           VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    cron           VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    timezone       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    task           JSON         NOT NULL,
    misfire_policy VARCHAR(8)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    overlap_policy VARCHAR(8)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    enabled        BOOL         NOT NULL,
    revision       INT          NOT NULL DEFAULT 0,
    key_id         CHAR(8)      CHARACTER SET ascii COLLATE ascii_bin NULL,
    next_tick      DATETIME(6)  NULL,
    due_at         DATETIME(6)  NULL,
    last_tick      DATETIME(6)  NULL,
    last_fired_at  DATETIME(6)  NULL,
    last_task_id   CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NULL,
    remark         TEXT         NULL,
    remark_at      DATETIME(6)  NULL,
    created_at     DATETIME(6)  NOT NULL,
    changed_at     DATETIME(6)  NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY uq_schedules_owner_name (owner, name),
    KEY ix_schedules_owner_id (owner, id),
    KEY ix_schedules_due (due_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

FIRINGS = """
CREATE TABLE firings (
    task_id     CHAR(36)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    schedule_id CHAR(36)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    tick        DATETIME(6) NULL,
    PRIMARY KEY (task_id),
    UNIQUE KEY uq_firings_tick (schedule_id, tick),
    KEY ix_firings_schedule (schedule_id, task_id),
    KEY ix_firings_owner (owner, schedule_id, task_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (SCHEDULES, FIRINGS):
        op.execute(statement)
