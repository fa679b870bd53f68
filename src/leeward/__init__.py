"""Leeward: disaster recovery for small offices."""

__version__ = "0.1.0"
