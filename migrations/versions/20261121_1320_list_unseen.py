"""Keep a list of the users who were not seen for a day."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unseen",
        sa.Column("subject_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("host_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_unseen")),
    )
    op.create_index(op.f("ix_unseen_last_seen_at"), "unseen", ["last_seen_at"])
    op.create_index(op.f("ix_unseen_name_host_id"), "unseen", ["name", "host_id"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
