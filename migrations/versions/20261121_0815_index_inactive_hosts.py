"""Index the hosts that are quarantined or revoked: they are few, and the rest needn't be read to count them."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_host_inactive",
        "host",
        ["state"],
        postgresql_where=sa.text("state <> 1"),
        sqlite_where=sa.text("state <> 1"),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
