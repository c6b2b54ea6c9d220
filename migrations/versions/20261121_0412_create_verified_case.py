"""Keep what real PCs did with the cases of the conformance kit."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "verified_case",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.String(length=80), nullable=False),
        sa.Column("windows", sa.String(length=120), nullable=False),
        sa.Column("windows_build", sa.String(length=40), nullable=False),
        sa.Column("observed_at", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(length=40), nullable=False),
        sa.Column("error", sa.Integer(), nullable=True),
        sa.Column("engine_decision", sa.String(length=40), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("doubts", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(length=254), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verified_case")),
        sa.UniqueConstraint(
            "case_id",
            "windows_build",
            "observed_at",
            name=op.f("uq_verified_case_case_id_windows_build_observed_at"),
        ),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
