"""Count silent subjects and those with gaps, and find them without reading all."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "absence",
        sa.Column("group_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("what", sa.String(length=10), nullable=False),
        sa.Column("subjects", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "what", name=op.f("pk_absence")),
    )
    op.create_index(
        "ix_subject_silent",
        "subject",
        ["host_id"],
        postgresql_where=sa.text("standing = 6"),
        sqlite_where=sa.text("standing = 6"),
    )
    op.create_index(
        "ix_pulse_missed",
        "pulse",
        ["subject_id"],
        postgresql_where=sa.text("missed > 0"),
        sqlite_where=sa.text("missed > 0"),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
