"""When plans are to be tested, again and again, beside VMs."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("drill") as batch:
        batch.alter_column(
            "vm_id",
            new_column_name="subject",
            type_=sa.String(80),
            existing_type=sa.String(36),
            existing_nullable=False,
        )
