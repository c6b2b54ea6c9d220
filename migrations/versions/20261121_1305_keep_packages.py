"""Keep the words under which a rule set was approved, and packages byte for byte.

Approvals from before take the words that their rule set has now: what it had then nobody wrote down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_WORDS = ("name", "purpose", "owner", "change_number", "review_by")


def upgrade() -> None:
    op.add_column("rule_set_approval", sa.Column("name", sa.String(length=200), nullable=False, server_default=""))
    op.add_column("rule_set_approval", sa.Column("purpose", sa.Text(), nullable=False, server_default=""))
    op.add_column("rule_set_approval", sa.Column("owner", sa.String(length=254), nullable=False, server_default=""))
    op.add_column(
        "rule_set_approval", sa.Column("change_number", sa.String(length=80), nullable=False, server_default="")
    )
    op.add_column("rule_set_approval", sa.Column("review_by", sa.BigInteger(), nullable=True))
    for word in _WORDS:
        op.execute(
            f"UPDATE rule_set_approval SET {word} = "  # noqa: S608 - the words above
            f"(SELECT rule_set.{word} FROM rule_set WHERE rule_set.id = rule_set_approval.rule_set_id)"
        )
    op.create_table(
        "rule_set_package",
        sa.Column("export_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id"], ["export.id"], name=op.f("fk_rule_set_package_export_id_export"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("export_id", name=op.f("pk_rule_set_package")),
    )


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
