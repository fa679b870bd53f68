"""Pictures of what test failovers have shown."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evidence",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("vm_id", sa.String(36), nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("picture", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
