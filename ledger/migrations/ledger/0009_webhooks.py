"""Webhooks: which task has one, what is to be told to it, how that went, and the secrets that sign it."""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    "ALTER TABLE tasks ADD COLUMN webhook JSON NULL AFTER on_parent_failure",
    """
    CREATE TABLE webhook_deliveries (
        seq          BIGINT       NOT NULL,
        task_id      CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        lane         VARCHAR(320) CHARACTER SET ascii COLLATE ascii_bin NULL,
        next_at      DATETIME(6)  NULL,
        tries        INT          NOT NULL DEFAULT 0,
        tries_left   SMALLINT     NOT NULL,
        trying_since DATETIME(6)  NULL,
        by_hand      TINYINT(1)   NOT NULL DEFAULT 0,
        outcome      VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NULL,
        settled_at   DATETIME(6)  NULL,
        PRIMARY KEY (seq),
        KEY ix_webhook_deliveries_lane (lane, next_at),
        KEY ix_webhook_deliveries_task (task_id)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
    """
    CREATE TABLE webhook_tries (
        seq          BIGINT       NOT NULL,
        number       INT          NOT NULL,
        at           DATETIME(6)  NOT NULL,
        milliseconds INT          NULL,
        status       SMALLINT     NULL,
        error        VARCHAR(200) NULL,
        PRIMARY KEY (seq, number)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
    """
    CREATE TABLE webhooks_gone (
        owner   VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        digest  CHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        gone_at DATETIME(6) NOT NULL,
        PRIMARY KEY (owner, digest)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
    """
    CREATE TABLE webhook_secrets (
        id         CHAR(8)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        owner      VARCHAR(32)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        secret     VARBINARY(64) NOT NULL,
        created_at DATETIME(6)   NOT NULL,
        expires_at DATETIME(6)   NULL,
        PRIMARY KEY (id),
        KEY ix_webhook_secrets_owner (owner, created_at)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
