"""Count hosts by agent version once an hour, and find them by it in the order of their names."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent_version_count",
        sa.Column("group_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("hosts", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "version", name=op.f("pk_agent_version_count")),
    )
    op.create_index(op.f("ix_host_agent_version_name_id"), "host", ["agent_version", "name", "id"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
