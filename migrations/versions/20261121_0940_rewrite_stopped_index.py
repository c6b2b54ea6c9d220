"""Write an index's condition in the form that PostgreSQL gives back unchanged: bulk copies make it anew from that."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

STOPPED = "substr(appid_service, 1, 7) = 'stopped'"


def upgrade() -> None:
    op.drop_index("ix_host_service_stopped", table_name="host")
    op.create_index(
        "ix_host_service_stopped",
        "host",
        ["id"],
        postgresql_where=sa.text(STOPPED),
        sqlite_where=sa.text(STOPPED),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
