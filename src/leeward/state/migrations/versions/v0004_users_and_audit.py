"""Users, tokens, logins, the set-up code and the audit log; wider bandwidths; the generation's row exists."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "console_user",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("password", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(64), nullable=True, index=True),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32), nullable=True),
        sa.Column("last_used", sa.String(32), nullable=True),
    )
    op.create_table(
        "login",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("user_name", sa.String(64), nullable=False, index=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32), nullable=False),
        sa.Column("last_used", sa.String(32), nullable=False),
    )
    op.create_table(
        "setup_code",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires", sa.String(32), nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time", sa.String(32), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    # PostgreSQL's integer ends at two gigabytes a second.
    with op.batch_alter_table("protected_vm") as batch:
        batch.alter_column("bandwidth", type_=sa.BigInteger, existing_type=sa.Integer, existing_nullable=False)
    # Counting is an UPDATE, which several consoles can do at once; it needs a row to count in.
    counter = sa.table("counter", sa.column("name", sa.String), sa.column("value", sa.Integer))
    connection = op.get_bind()
    if connection.scalar(sa.select(counter.c.value).where(counter.c.name == "generation")) is None:
        op.bulk_insert(counter, [{"name": "generation", "value": 0}])
