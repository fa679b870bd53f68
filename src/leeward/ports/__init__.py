"""One Protocol per outside system; its docstring is its contract, its conformance suite in tests/ports the proof."""
