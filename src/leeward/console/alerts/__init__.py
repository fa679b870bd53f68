"""Alerts: found to be wrong, written down, told by mail and webhook."""
