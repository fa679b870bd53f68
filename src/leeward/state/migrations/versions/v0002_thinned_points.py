"""For how long hourly and daily points are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("hourly_s", "daily_s"):
        op.add_column("protected_vm", sa.Column(name, sa.Float, nullable=False, server_default="0"))
