"""The agent: keeps the VMs of its hosts replicated as the console wishes, also while the console is away."""
