"""The console: what the operator wishes, told to agents; what agents report, told to the operator."""
