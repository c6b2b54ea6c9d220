"""Count what stands in the way of each uv command.

The table is filled when a server of this release starts: it makes all derived tallies anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "obstacle_tally",
        sa.Column("group_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("standing", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("workflow", sa.String(length=80), nullable=False),
        sa.Column("word", sa.String(length=40), nullable=False),
        sa.Column("subjects", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "standing", "workflow", "word", name=op.f("pk_obstacle_tally")),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
