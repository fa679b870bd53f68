"""The `leeward` command."""
