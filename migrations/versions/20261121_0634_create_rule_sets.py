"""Keep rule sets: base policies, drafts, simulations, comments, approvals and what they exported."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "base_policy",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("seen_set_id", sa.BigInteger(), nullable=True),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(length=254), nullable=False),
        sa.CheckConstraint("origin IN ('gpo','intune','seen')", name=op.f("ck_base_policy_origin")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_policy")),
        sa.UniqueConstraint("origin", "sha256", name=op.f("uq_base_policy_origin_sha256")),
    )
    op.create_table(
        "rule_set",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=True),
        sa.Column("sids", sa.JSON(), nullable=False),
        sa.Column("pilot_sids", sa.JSON(), nullable=False),
        sa.Column("project_roots", sa.JSON(), nullable=False),
        sa.Column("roots", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(length=254), nullable=False),
        sa.Column("change_number", sa.String(length=80), nullable=False),
        sa.Column("review_by", sa.BigInteger(), nullable=True),
        sa.Column("slider", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("authors", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=254), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('draft','in_review','approved','exported','retired')", name=op.f("ck_rule_set_state")
        ),
        sa.ForeignKeyConstraint(["base_id"], ["base_policy.id"], name=op.f("fk_rule_set_base_id_base_policy")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_set")),
    )
    op.create_index(op.f("ix_rule_set_base_id"), "rule_set", ["base_id"], unique=False)
    op.create_index(op.f("ix_rule_set_state_updated_at"), "rule_set", ["state", "updated_at"], unique=False)
    op.create_table(
        "rule_set_approval",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_set_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("approved_by", sa.String(length=254), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("base_sha256", sa.String(length=64), nullable=False),
        sa.Column("draft_sha256", sa.String(length=64), nullable=False),
        sa.Column("simulation_sha256", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("voided_at", sa.BigInteger(), nullable=True),
        sa.Column("voided_why", sa.String(length=300), nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_set_id"], ["rule_set.id"], name=op.f("fk_rule_set_approval_rule_set_id_rule_set"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_set_approval")),
    )
    op.create_index(op.f("ix_rule_set_approval_rule_set_id"), "rule_set_approval", ["rule_set_id"], unique=False)
    op.create_table(
        "rule_set_comment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_set_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=254), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.String(length=36), nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_set_id"], ["rule_set.id"], name=op.f("fk_rule_set_comment_rule_set_id_rule_set"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_set_comment")),
    )
    op.create_index(op.f("ix_rule_set_comment_rule_set_id"), "rule_set_comment", ["rule_set_id"], unique=False)
    op.create_table(
        "rule_set_item",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_set_id", sa.Integer(), nullable=False),
        sa.Column("pattern", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=True),
        sa.Column("files", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("origins", sa.JSON(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(length=254), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_set_id"], ["rule_set.id"], name=op.f("fk_rule_set_item_rule_set_id_rule_set"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_set_item")),
        sa.UniqueConstraint("rule_set_id", "pattern", name=op.f("uq_rule_set_item_rule_set_id_pattern")),
    )
    op.create_table(
        "rule_set_simulation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_set_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("asked_by", sa.String(length=254), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("draft_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("problem", sa.String(length=1000), nullable=True),
        sa.CheckConstraint("state IN ('waiting','running','done','failed')", name=op.f("ck_rule_set_simulation_state")),
        sa.ForeignKeyConstraint(
            ["rule_set_id"],
            ["rule_set.id"],
            name=op.f("fk_rule_set_simulation_rule_set_id_rule_set"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_set_simulation")),
    )
    op.create_index(op.f("ix_rule_set_simulation_rule_set_id"), "rule_set_simulation", ["rule_set_id"], unique=False)
    op.create_table(
        "rule_set_export",
        sa.Column("rule_set_id", sa.Integer(), nullable=False),
        sa.Column("export_id", sa.Integer(), nullable=False),
        sa.Column("approval_id", sa.Integer(), nullable=False),
        sa.Column("ring", sa.String(length=12), nullable=False),
        sa.Column("delivery", sa.String(length=20), nullable=False),
        sa.Column("sids", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["approval_id"],
            ["rule_set_approval.id"],
            name=op.f("fk_rule_set_export_approval_id_rule_set_approval"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["export_id"], ["export.id"], name=op.f("fk_rule_set_export_export_id_export"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["rule_set_id"], ["rule_set.id"], name=op.f("fk_rule_set_export_rule_set_id_rule_set"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rule_set_id", "export_id", name=op.f("pk_rule_set_export")),
    )
    op.create_index(op.f("ix_rule_set_export_export_id"), "rule_set_export", ["export_id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
