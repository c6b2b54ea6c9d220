"""Keep work that people asked for; of simulations only results."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "work",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("under_way", sa.String(length=130), nullable=True),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("page", sa.String(length=500), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("claim", sa.String(length=120), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("doing", sa.String(length=100), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("asked_by", sa.String(length=254), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("problem", sa.String(length=1000), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
        sa.UniqueConstraint("under_way", name=op.f("uq_work_under_way")),
    )
    op.create_index(op.f("ix_work_kind_key_id"), "work", ["kind", "key", "id"])
    op.create_index(op.f("ix_work_ended_at"), "work", ["ended_at"])
    # A row of a simulation was its wish and its result in one; wishes are work now. What was under way has to be asked
    # for again, as after any restart.
    op.execute("DELETE FROM rule_set_simulation WHERE state <> 'done' OR sha256 IS NULL OR result IS NULL")
    op.execute("UPDATE rule_set_simulation SET ended_at = asked_at WHERE ended_at IS NULL")
    with op.batch_alter_table("rule_set_simulation") as table:
        table.drop_constraint(op.f("ck_rule_set_simulation_state"), type_="check")
        for name in ("state", "done", "total", "problem"):
            table.drop_column(name)
        table.alter_column("ended_at", existing_type=sa.BigInteger(), nullable=False)
        table.alter_column("sha256", existing_type=sa.String(length=64), nullable=False)
        table.alter_column("result", existing_type=sa.JSON(), nullable=False)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
