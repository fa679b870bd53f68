"""Any sequence of calls gives what a plain dict would give, in memory and on disk alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from leeward.domain.errors import ObjectExists, ObjectNotFound
from leeward.ports.objects import ObjectInfo, ObjectStore
from leeward.vault.stores.local import LocalStore
from leeward.vault.stores.memory import MemoryStore

# Few names that sort awkwardly around "/". Folders and objects have different names: a key is never a folder too.
FOLDERS = st.sampled_from(["d", "d-", "d0", "e"])
LEAVES = st.sampled_from(["a", "a-", "a.b", "a0", "a_", "b"])
KEYS = st.builds(lambda folders, leaf: "/".join([*folders, leaf]), st.lists(FOLDERS, max_size=3), LEAVES)
TEXTS = st.one_of(KEYS, st.text("ad-./0_", max_size=6))
PARTS = st.lists(st.binary(max_size=20), max_size=4)


class StoreMachine(RuleBasedStateMachine):
    known = Bundle("known")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="leeward-model-")
        self.model: dict[str, bytes] = {}
        self.stores: dict[str, ObjectStore] = {
            "memory": MemoryStore(),
            "local": LocalStore(f"{self.folder}/nameless"),
            "named": LocalStore(f"{self.folder}/named", nameless=False),
        }

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def each(self, call: Callable[[ObjectStore], Any], wanted: Any) -> None:
        for name, store in self.stores.items():
            assert call(store) == wanted, name

    def each_raises(self, call: Callable[[ObjectStore], Any], error: type[Exception]) -> None:
        for store in self.stores.values():
            with pytest.raises(error):
                call(store)

    @rule(target=known, key=KEYS, parts=PARTS)
    def put(self, key: str, parts: list[bytes]) -> str:
        if key in self.model:
            self.each_raises(lambda store: store.put(key, parts), ObjectExists)
        else:
            self.each(lambda store: store.put(key, parts), None)
            self.model[key] = b"".join(parts)
        return key

    @rule(key=st.one_of(known, KEYS))
    def delete(self, key: str) -> None:
        self.each(lambda store: store.delete(key), None)
        self.model.pop(key, None)

    @rule(key=st.one_of(known, KEYS), start=st.integers(0, 90), length=st.integers(0, 90))
    def read(self, key: str, start: int, length: int) -> None:
        if key in self.model:
            content = self.model[key]
            self.each(lambda store: store.get(key), content)
            self.each(lambda store: store.size(key), len(content))
            self.each(lambda store: store.get_range(key, start, length), content[start : start + length])
        else:
            for call in (ObjectStore.get, ObjectStore.size):
                self.each_raises(lambda store, name=call.__name__: getattr(store, name)(key), ObjectNotFound)

    @rule(key=KEYS, cut=st.integers(0, 12), start_after=TEXTS)
    def scan(self, key: str, cut: int, start_after: str) -> None:
        prefix = key[:cut]
        wanted = [
            ObjectInfo(key, len(self.model[key]))
            for key in sorted(self.model)
            if key.startswith(prefix) and key > start_after
        ]
        self.each(lambda store: list(store.scan(prefix, start_after)), wanted)

    @rule(folders=st.lists(FOLDERS, max_size=3))
    def list_folders(self, folders: list[str]) -> None:
        prefix = "".join(f"{name}/" for name in folders)
        rests = [key[len(prefix) :] for key in self.model if key.startswith(prefix)]
        self.each(lambda store: store.folders(prefix), sorted({rest.split("/")[0] for rest in rests if "/" in rest}))

    @rule()
    def reopen_the_local_stores(self) -> None:
        self.stores["local"] = LocalStore(f"{self.folder}/nameless", create=False)
        self.stores["named"] = LocalStore(f"{self.folder}/named", create=False, nameless=False)

    @invariant()
    def all_is_there(self) -> None:
        if hasattr(self, "model"):
            self.each(lambda store: [info.key for info in store.scan("")], sorted(self.model))


StoreMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples * 2 // 5, stateful_step_count=30, deadline=None
)
TestStores = StoreMachine.TestCase
