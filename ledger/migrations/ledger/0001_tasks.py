"""Tasks, their events, and the counters."""

from alembic import op

revision = "0001"
down_revision = None

TASKS = """
CREATE TABLE tasks (
    id              CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    task_type       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    priority        VARCHAR(8)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    queue           VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state           VARCHAR(12)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    parameters      JSON         NOT NULL,
    attempt         INT          NOT NULL DEFAULT 0,
    retries         SMALLINT     NOT NULL DEFAULT 0,
    max_retries     SMALLINT     NOT NULL,
    timeout_seconds INT          NOT NULL,
    due_at          DATETIME(6)  NULL,
    dispatched_at   DATETIME(6)  NULL,
    dispatches      INT          NOT NULL DEFAULT 0,
    worker          VARCHAR(128) NULL,
    lease_until     DATETIME(6)  NULL,
    progress_done   BIGINT       NULL,
    progress_total  BIGINT       NULL,
    participants    JSON         NULL,
    result          JSON         NULL,
    error           JSON         NULL,
    undone          JSON         NULL,
    created_at      DATETIME(6)  NOT NULL,
    updated_at      DATETIME(6)  NOT NULL,
    started_at      DATETIME(6)  NULL,
    finished_at     DATETIME(6)  NULL,
    PRIMARY KEY (id),
    KEY ix_tasks_state_due (state, due_at),
    KEY ix_tasks_state_lease (state, lease_until),
    KEY ix_tasks_state_queue (state, queue, dispatched_at),
    KEY ix_tasks_state_id (state, id),
    KEY ix_tasks_type_id (task_type, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

EVENTS = """
CREATE TABLE task_events (
    seq     BIGINT      NOT NULL AUTO_INCREMENT,
    task_id CHAR(36)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    at      DATETIME(6) NOT NULL,
    event   VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state   VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt INT         NOT NULL,
    remark  TEXT        NULL,
    detail  JSON        NULL,
    PRIMARY KEY (seq),
    KEY ix_task_events_task (task_id, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

COUNTERS = """
CREATE TABLE counters (
    name  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    value BIGINT      NOT NULL DEFAULT 0,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    for statement in (TASKS, EVENTS, COUNTERS):
        op.execute(statement)
