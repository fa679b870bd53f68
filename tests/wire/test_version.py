"""What agents and console say to each other does not change without its version."""

import hashlib
import json

from leeward.wire.messages import WIRE_VERSION
from leeward.wire.polls import Enrol, Enrolled, Orders, Poll, Renew, Renewed, Tell, Told

# version → digest of all messages. A version that was released keeps its line.
SAID = {2: "e51b650908b697ff", 3: "a40deecac18bd458", 4: "4d482e0c12b4005b", 5: "16c44005047a4e59"}


def bare(schema):
    """Without what is for people."""
    if isinstance(schema, dict):
        return {name: bare(part) for name, part in schema.items() if name not in ("description", "title", "default")}
    return [bare(part) for part in schema] if isinstance(schema, list) else schema


def test_a_change_of_the_messages_is_a_new_version():
    messages = (Enrol, Enrolled, Orders, Poll, Renew, Renewed, Tell, Told)
    schemas = {message.__name__: bare(message.model_json_schema()) for message in messages}
    digest = hashlib.sha256(json.dumps(schemas, sort_keys=True).encode()).hexdigest()[:16]
    assert SAID.get(WIRE_VERSION) == digest, "raise WIRE_VERSION, and note here what it says now"
