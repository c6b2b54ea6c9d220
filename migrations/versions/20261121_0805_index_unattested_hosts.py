"""Index the hosts whose reports nobody but their users vouches for; in a rolled-out fleet they are few."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("NOT attested")
    op.create_index("ix_host_unattested", "host", ["group_id"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
