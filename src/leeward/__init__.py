"""Leeward: disaster recovery for small offices."""

import os

# NumPy's linear algebra would start a thread for each core and let it spin; nothing here multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
