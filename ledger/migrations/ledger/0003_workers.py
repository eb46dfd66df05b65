"""The worker processes that there are."""

from alembic import op

revision = "0003"
down_revision = "0002"

WORKERS = """
CREATE TABLE workers (
    name           VARCHAR(128) NOT NULL,
    kind           VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    queues         JSON         NOT NULL,
    concurrency    INT          NOT NULL,
    free           INT          NOT NULL,
    reaches_broker BOOL         NOT NULL,
    leaving        BOOL         NOT NULL,
    incarnation    CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    started_at     DATETIME(6)  NOT NULL,
    seen_at        DATETIME(6)  NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    op.execute(WORKERS)
