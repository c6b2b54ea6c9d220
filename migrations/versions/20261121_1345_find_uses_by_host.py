"""Find uses of rules by host and day, as reports tell them: a key that begins with the rule reads all of a day."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return  # SQLite kept the key that it had
    op.execute(
        "ALTER TABLE rule_use DROP CONSTRAINT pk_rule_use,"
        " ADD CONSTRAINT pk_rule_use PRIMARY KEY (host_id, day, rule_id, bucket)"
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
