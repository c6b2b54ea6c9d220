"""Find hosts by how their name begins without reading all of them."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX IF NOT EXISTS ix_host_lower_name ON host (lower(name) text_pattern_ops)")


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
