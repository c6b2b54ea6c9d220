"""Put each host, and all that is told of it, into one of 256 buckets, and the bucket into their keys.

A cluster distributes the tables by it. It stands last in the keys, so that an id alone still finds its row. SQLite is
never distributed: there it is a column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

OF = {
    "host": "id",
    "subject": "host_id",
    "host_tag": "host_id",
    "rule_use": "host_id",
    "sighting": "host_id",
}
KEYS = {
    "host": "id",
    "subject": "id",
    "pulse": "subject_id",
    "host_tag": "tag, host_id",
    "rule_use": "rule_id, day, host_id",
    "transition": "subject_id, at, kind",
    "sighting": "host_id, at, channel, record",
    "tally_delta": "id",
}
REFERENCES = {
    "subject": ("host_id", "host"),
    "pulse": ("subject_id", "subject"),
    "host_tag": ("host_id", "host"),
    "rule_use": ("host_id", "host"),
}


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    for table in KEYS:
        # Rows are given theirs below; a default that stayed would hide a row that was forgotten.
        op.add_column(table, sa.Column("bucket", sa.SmallInteger(), nullable=False, server_default="0"))
    for table, host in OF.items():
        op.execute(f"UPDATE {table} SET bucket = {host} % 256")  # noqa: S608 - our own tables
    for table in ("pulse", "transition"):
        op.execute(f"UPDATE {table} SET bucket = s.bucket FROM subject s WHERE s.id = {table}.subject_id")  # noqa: S608 - our own
    if not on_postgresql:
        return
    for table, (column, to) in REFERENCES.items():
        op.drop_constraint(f"fk_{table}_{column}_{to}", table)
    op.drop_constraint("uq_subject_host_id_sid_hmac", "subject")
    for table, key in KEYS.items():
        op.alter_column(table, "bucket", server_default=None)
        op.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT pk_{table}, ADD CONSTRAINT pk_{table} PRIMARY KEY ({key}, bucket)"
        )
    op.create_unique_constraint("uq_subject_host_id_sid_hmac_bucket", "subject", ["host_id", "sid_hmac", "bucket"])
    for table, (column, to) in REFERENCES.items():
        op.create_foreign_key(
            f"fk_{table}_{column}_bucket_{to}", table, to, [column, "bucket"], ["id", "bucket"], ondelete="CASCADE"
        )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
