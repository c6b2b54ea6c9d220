"""Count sightings by day, and note how work by the clock went."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sighting_day",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pattern", sa.String(length=80), nullable=False),
        sa.Column("event_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sightings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "pattern", "event_id", name=op.f("pk_sighting_day")),
    )
    op.create_table(
        "job",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=True),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job")),
    )
    op.create_index("ix_sighting_recorded_at", "sighting", ["recorded_at"], postgresql_using="brin")


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
