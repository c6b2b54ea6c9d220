"""Give hosts tags."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "host_tag",
        sa.Column("tag", sa.String(length=60), nullable=False),
        sa.Column("host_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name=op.f("fk_host_tag_host_id_host"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tag", "host_id", name=op.f("pk_host_tag")),
    )
    op.create_index(op.f("ix_host_tag_host_id"), "host_tag", ["host_id"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
