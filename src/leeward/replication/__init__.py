"""Replication of one VM: read what changed, put it into the vault, and only then let go of the old tracking point."""
