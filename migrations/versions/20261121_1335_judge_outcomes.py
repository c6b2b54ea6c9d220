"""Note of each set of probes which outcomes are in it. Filled when a server of this release starts."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("judged_set", sa.Column("outcomes", sa.SmallInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
