"""Keys under which a client may submit again without submitting twice."""

from alembic import op

revision = "0006"
down_revision = "0005"

KEYS = """
CREATE TABLE idempotency_keys (
    owner           VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    idempotency_key VARBINARY(255) NOT NULL,
    fingerprint     CHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    task_ids        JSON           NOT NULL,
    created_at      DATETIME(6)    NOT NULL,
    PRIMARY KEY (owner, idempotency_key),
    KEY ix_idempotency_keys_created (created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""


def upgrade() -> None:
    op.execute(KEYS)
