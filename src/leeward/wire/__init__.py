"""Versioned messages between console and agent; plain values, the same whether they cross a process or not."""
