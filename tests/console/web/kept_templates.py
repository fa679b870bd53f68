"""Templates of tests are compiled once for all stands of a process, in each language."""

from jinja2 import BytecodeCache


class KeptTemplates(BytecodeCache):
    """For one language: what a filter makes of something constant is in the compiled template already."""

    def __init__(self):
        self.compiled = {}

    def load_bytecode(self, bucket):
        bucket.code = self.compiled.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket):
        self.compiled[bucket.key, bucket.checksum] = bucket.code


def keeping(make_room):
    """Does what `make_room` does."""
    kept = {}

    def room(language, assets):
        made = make_room(language, assets)
        made.bytecode_cache = kept.setdefault(language.code, KeptTemplates())
        return made

    return room
