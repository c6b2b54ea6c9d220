"""Stop probing for all or a group; tell trials from attested hosts; find a host again that is made anew."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "probing_stop",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_by", sa.String(length=254), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["host_group.id"], name=op.f("fk_probing_stop_group_id_host_group")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probing_stop")),
        sa.UniqueConstraint("group_id", name=op.f("uq_probing_stop_group_id")),
    )
    op.add_column("enrolment_secret", sa.Column("trial", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("host", sa.Column("trial", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("host", sa.Column("account_hash", sa.LargeBinary(), nullable=True))
    op.create_index(op.f("ix_host_account_hash"), "host", ["account_hash"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
