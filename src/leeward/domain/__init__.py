"""Frozen values and rules: no I/O, no clock, no async. Every word is from docs/glossary.md."""
