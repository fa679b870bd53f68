"""The dashboard: the console's pages, made on the server, kept live in the browser (docs/dashboard.md)."""
