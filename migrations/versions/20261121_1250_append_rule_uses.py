"""Append how often rules were used, and fold it by the clock; count what sightings a host tells in a day."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "rule_use_delta",
        sa.Column("id", big_id, nullable=False, autoincrement=True),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("hosts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(*(("id", "bucket") if on_postgresql else ("id",)), name=op.f("pk_rule_use_delta")),
    )
    op.add_column("host", sa.Column("sightings_today", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("host", sa.Column("sightings_left_out", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
