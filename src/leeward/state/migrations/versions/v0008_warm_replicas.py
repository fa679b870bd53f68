"""Which host keeps a warm replica of a VM."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("protected_vm", sa.Column("warm", sa.String(255), nullable=False, server_default=""))
