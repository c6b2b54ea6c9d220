"""Note of each set of probes which uv commands work under it, and which engines closed anything.

The table is filled when a server of this release starts: it makes all derived tallies anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judged_set",
        sa.Column("set_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("verdicts", sa.BigInteger(), nullable=False),
        sa.Column("engines", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("set_id", name=op.f("pk_judged_set")),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
