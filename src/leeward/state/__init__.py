"""The console's own memory: SQL tables, and the migrations that make them."""
