"""Keep how often rules were used, by host and day, and what is counted from it for the pages."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rule_use",
        sa.Column("host_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name=op.f("fk_rule_use_host_id_host"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "day", "rule_id", name=op.f("pk_rule_use")),
    )
    op.create_index(op.f("ix_rule_use_day"), "rule_use", ["day"])
    op.create_table(
        "rule_day",
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("hosts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rule_id", "day", name=op.f("pk_rule_day")),
    )
    op.create_table(
        "rule_counted",
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("hosts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rule_id", name=op.f("pk_rule_counted")),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
