"""Bringing VMs back: recovery points as NBD exports, test failovers on them, and plain image files."""
