"""Keep second factors of accounts, and who somebody is at the identity provider."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "second_factor",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("recovery_hashes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_second_factor_account_id_account"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_second_factor")),
    )
    op.add_column("account", sa.Column("sso_issuer", sa.String(length=500), nullable=True))
    op.add_column("account", sa.Column("sso_subject", sa.String(length=255), nullable=True))
    # An index, no constraint: for that SQLite would make the table anew, and dropping the old one would cascade.
    op.create_index("ix_account_sso", "account", ["sso_issuer", "sso_subject"], unique=True)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
