"""Keep of each host how its Application Identity service stands; find quickly those where it does not run."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STOPPED = "appid_service IN ('stopped', 'stopped-automatic', 'stopped-manual', 'stopped-disabled')"


def upgrade() -> None:
    op.add_column("host", sa.Column("appid_service", sa.String(32), nullable=False, server_default=""))
    op.create_index(
        "ix_host_service_stopped",
        "host",
        ["id"],
        postgresql_where=sa.text(STOPPED),
        sqlite_where=sa.text(STOPPED),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
