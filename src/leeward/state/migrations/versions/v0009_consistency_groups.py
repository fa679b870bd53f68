"""Which VMs have points of one instant."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    name = sa.Column("consistency_group", sa.String(64), nullable=False, server_default="")
    op.add_column("protected_vm", name)
    op.add_column("protected_vm", sa.Column("group_s", sa.Float, nullable=False, server_default="60"))
