"""Agents that enrol from elsewhere: who they are, their tokens, their jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("enrolled", sa.String(32), nullable=False),
        sa.Column("revoked", sa.String(255), nullable=False),
        sa.Column("heard", sa.String(32), nullable=False),
        sa.Column("desired", sa.Text, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("hosts", sa.Text, nullable=False),
    )
    op.create_table(
        "agent_token",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32), nullable=False),
        sa.Column("used", sa.String(32), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("agent_id", sa.String(36), nullable=False),
    )
    op.create_table(
        "agent_job",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("agent_id", sa.String(36), nullable=False),
        sa.Column("job_id", sa.String(200), nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("released", sa.String(32), nullable=False),
        sa.UniqueConstraint("agent_id", "job_id", name="uq_agent_job"),
    )
