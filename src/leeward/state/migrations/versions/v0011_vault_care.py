"""The vault looked after: its size over time, and what checks of it have found."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vault_size",
        sa.Column("at", sa.Float, primary_key=True, autoincrement=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "vault_check",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("deep", sa.Boolean, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("began", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("objects", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("points", sa.Integer, nullable=False),
        sa.Column("troubles", sa.Integer, nullable=False),
        sa.Column("found", sa.Text, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
    )
