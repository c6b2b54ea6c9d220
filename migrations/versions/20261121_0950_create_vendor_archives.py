"""Keep vendors' archives that were checked against a published checksum, and the trusted files found in them."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vendor_archive",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum_name", sa.String(length=255), nullable=False),
        sa.Column("checksum_sha256", sa.String(length=64), nullable=False),
        sa.Column("checksum_line", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(length=254), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vendor_archive")),
        sa.UniqueConstraint("sha256", name=op.f("uq_vendor_archive_sha256")),
    )
    op.create_table(
        "vendor_archive_file",
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("file_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=4096), nullable=False),
        sa.Column("is_only_ground", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["archive_id"],
            ["vendor_archive.id"],
            name=op.f("fk_vendor_archive_file_archive_id_vendor_archive"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["baseline_file.id"],
            name=op.f("fk_vendor_archive_file_file_id_baseline_file"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("archive_id", "file_id", name=op.f("pk_vendor_archive_file")),
    )
    op.create_index(op.f("ix_vendor_archive_file_file_id"), "vendor_archive_file", ["file_id"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
