"""Several consoles on one database: which of them works, and what they must have alike."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    seat = op.create_table(
        "seat",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(32), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.bulk_insert(seat, [{"name": "console", "holder": "", "instance": "", "number": 0, "expires": 0.0}])
    op.create_table(
        "console",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("instance", sa.String(32), nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("agents", sa.String(255), nullable=False),
        sa.Column("alone", sa.Boolean, nullable=False),
        sa.Column("heard", sa.Float, nullable=False),
        sa.Column("software", sa.String(64), nullable=False),
        sa.Column("trouble", sa.String(255), nullable=False),
    )
    op.create_table(
        "common",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("value", sa.String(255), nullable=False),
    )
