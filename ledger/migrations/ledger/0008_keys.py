"""API keys, and whose a task is. Tasks from before have no owner: only a key with the scope admin sees them."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    """
    ALTER TABLE tasks
        ADD COLUMN owner VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' AFTER id,
        ADD KEY ix_tasks_owner_id (owner, id),
        ADD KEY ix_tasks_owner_state (owner, state)
    """,
    """
    CREATE TABLE api_keys (
        id                  CHAR(8)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        digest              CHAR(64)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        owner               VARCHAR(32)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        scopes              VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        requests_per_minute INT          NULL,
        most_open_tasks     INT          NULL,
        mails_per_day       INT          NULL,
        note                VARCHAR(200) NOT NULL,
        created_at          DATETIME(6)  NOT NULL,
        expires_at          DATETIME(6)  NULL,
        revoked_at          DATETIME(6)  NULL,
        last_used_at        DATETIME(6)  NULL,
        PRIMARY KEY (id)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
    """
    CREATE TABLE mail_quotas (
        owner VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        day   DATE        NOT NULL,
        mails INT         NOT NULL,
        PRIMARY KEY (owner)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
