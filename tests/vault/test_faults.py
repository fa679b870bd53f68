"""Whatever is damaged is named; what does not depend on it stays readable."""

import random

import pytest
from tests.vault.conftest import CHEAP, VM
from tests.vault.pen import Pen

from leeward.domain.errors import Damaged, NotFound, ObjectNotFound, Refused, WrongKey
from leeward.vault import keyspace
from leeward.vault.check import check
from leeward.vault.crypto import VaultKeys
from leeward.vault.facade import Vault
from leeward.vault.format import FIXED_SIZE, parse_header
from leeward.vault.stores.memory import MemoryStore


def noise(seed, size):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def written(pen, small_objects):
    """Point 2: 5 MiB in parts and in the commit; 3: two blocks; 4: one of them again; 5: another disk block."""
    pen.resize("vda", 100).put("vda", 0, noise(1, 5 << 20)).commit()
    pen.put("vda", 90, noise(2, 2 << 16)).commit()
    pen.put("vda", 90, noise(3, 1 << 16)).commit()
    pen.put("vda", 97, noise(4, 1 << 16)).commit()
    return pen


def replace(store, key, data):
    store.delete(key)
    store.put(key, [data])


def flip(store, key, at):
    data = bytearray(store.get(key))
    data[at] ^= 1
    replace(store, key, bytes(data))


def log(seq):
    return f"vm/{VM}/log/{seq:016d}"


def parts(store):
    return [info.key for info in store.scan(f"vm/{VM}/part/")]


def all_checks(vault):
    """Keyless with the public key alone, with keys, and deep."""
    return [
        check(vault.store, vault.public_key),
        check(vault.store, vault.public_key, keys=vault.keys),
        check(vault.store, vault.public_key, keys=vault.keys, deep=True),
    ]


def test_a_sound_vault_is_sound(written, vault):
    written.writer.write_map()
    vault.put_document(VM, "catalog", {"name": "web"})
    vault.pin(VM, "3", "test", 60)
    assert len(parts(vault.store)) >= 2
    for report in all_checks(vault):
        assert report.troubles == []
        assert report.objects == len(list(vault.store.scan("")))
    assert report.points == 4
    written.check_all()


@pytest.mark.parametrize("where", ["header", "signature", "meta", "first frame", "last byte"])
def test_a_flipped_bit_is_named_and_hurts_only_who_needs_it(written, vault, where):
    store, key = vault.store, log(3)
    data = store.get(key)
    header = parse_header(data, key)
    at = {
        "header": 80,
        "signature": header.size + 5,
        "meta": header.meta_start + 7,
        "first frame": header.frames_start + 3,
        "last byte": len(data) - 1,
    }[where]
    flip(store, key, at)
    for report in all_checks(vault):
        assert {trouble.key for trouble in report.troubles} == {key}
    written.check("2")
    if where in ("first frame", "last byte"):
        # Entry 3's frame holds block 91 of all later points, too.
        assert report.hurt == {VM: ["3", "4", "5"]}
        with vault.log(VM).open_point("5") as image:
            with pytest.raises(Damaged) as caught:
                image.disks["vda"].read(91 << 16, 512)
            assert caught.value.subject == key
            assert image.disks["vda"].read(90 << 16, 1 << 16) == written.remembered["5"]["vda"][90 << 16 : 91 << 16]
    else:
        assert report.hurt == {VM: ["3", "4", "5"]}
        with pytest.raises(Damaged) as caught:
            vault.log(VM).open_point("4")
        assert caught.value.subject == key


def test_a_damaged_part_hurts_all_points_that_need_it(written, vault):
    key = parts(vault.store)[0]
    flip(vault.store, key, vault.store.size(key) - 10)
    for report in all_checks(vault):
        assert [trouble.key for trouble in report.troubles] == [key]
    assert report.hurt == {VM: ["2", "3", "4", "5"]}


def test_data_that_was_overwritten_since_hurts_no_later_point(pen, vault):
    pen.resize("vda", 4).put("vda", 0, noise(1, 1 << 16)).commit()
    pen.put("vda", 0, noise(2, 1 << 16)).commit()
    key = log(2)
    flip(vault.store, key, vault.store.size(key) - 1)
    report = check(vault.store, keys=vault.keys)
    assert report.hurt == {VM: ["2"]}
    pen.check("3")


@pytest.mark.parametrize("length", [0, 10, FIXED_SIZE, FIXED_SIZE + 70, -1])
def test_a_truncated_object_is_named(written, vault, length):
    data = vault.store.get(log(4))
    replace(vault.store, log(4), data[:length])
    for report in all_checks(vault):
        assert {trouble.key for trouble in report.troubles} == {log(4)}
    written.check("3")
    with pytest.raises(Damaged) as caught, vault.log(VM).open_point("4") as image:
        image.disks["vda"].read(90 << 16, 512)
    assert caught.value.subject == log(4)


def test_swapped_objects_are_named(written, vault):
    one, two = vault.store.get(log(3)), vault.store.get(log(4))
    replace(vault.store, log(3), two)
    replace(vault.store, log(4), one)
    for report in all_checks(vault):
        assert {trouble.key for trouble in report.troubles} == {log(3), log(4)}
    written.check("2")
    with pytest.raises(Damaged, match="belongs at"):
        vault.log(VM).open_point("4")


def test_a_missing_entry_is_named(written, vault):
    vault.store.delete(log(3))
    for report in all_checks(vault):
        assert {trouble.key for trouble in report.troubles} == {log(3)}
    written.check("2")
    with pytest.raises(Damaged) as caught:
        vault.log(VM).open_point("5")
    assert caught.value.subject == log(3)


def test_a_missing_part_is_named_when_the_log_can_be_read(written, vault):
    key = parts(vault.store)[1]
    vault.store.delete(key)
    report = check(vault.store, keys=vault.keys)
    assert {trouble.key for trouble in report.troubles} == {key}
    assert report.hurt == {VM: ["2", "3", "4", "5"]}
    with pytest.raises(Damaged) as caught:
        vault.log(VM).open_point("2")
    assert caught.value.subject == key


def test_a_point_that_is_there_and_cannot_be_read_is_not_called_unknown(written, vault):
    replace(vault.store, log(4), vault.store.get(log(3)))
    assert "4" not in [point.id for point in vault.log(VM).points()]
    with pytest.raises(Damaged) as caught:
        vault.log(VM).choose("4")
    assert caught.value.subject == log(4)
    assert vault.log(VM).point("latest").id == "5"


def test_a_newest_point_that_is_gone_under_a_new_epoch_makes_no_older_one_the_newest(written, vault):
    """Nothing but the gap in the numbers tells of it."""
    vault.log(VM).take_epoch(1, {"writer": "w", "host": "h", "reason": "failover"})
    assert vault.log(VM).point("latest").id == "5"
    vault.store.delete(f"vm/{VM}/log/{5:016d}")
    with pytest.raises(Damaged, match="newest recovery point is damaged: this log entry is missing") as caught:
        vault.log(VM).point("latest")
    assert "choose it by its id" in caught.value.hint
    assert vault.log(VM).point("4").id == "4"


def test_a_log_whose_first_entries_are_gone_is_not_one_that_has_no_points_yet(pen, vault):
    with pytest.raises(NotFound, match="It has none yet"):
        vault.log(VM).point("latest")
    pen.resize("vda", 2).put("vda", 0, noise(1, 65536)).commit()
    vault.log(VM).open_writer(writer="other", new_epoch=True)
    for seq in (1, 2):
        vault.store.delete(log(seq))
    with pytest.raises(Damaged, match="this log entry is missing") as caught:
        vault.log(VM).point("latest")
    assert caught.value.subject == log(1)


def test_an_older_point_is_never_taken_for_the_newest(written, vault):
    flip(vault.store, log(5), 80)
    assert vault.log(VM).points()[-1].id == "4"
    with pytest.raises(Damaged, match="newest recovery point is damaged") as caught:
        vault.log(VM).point("latest")
    assert caught.value.subject == log(5)
    assert "is 4" in caught.value.hint
    assert vault.log(VM).point("4").id == "4"
    written.check("4")


def test_an_object_of_another_vault_is_named(written, vault):
    other_store = MemoryStore()
    other = Vault.create(other_store, "x", cost=CHEAP)[0]
    pen = Pen(other, VM)
    pen.resize("vda", 4).put("vda", 0, noise(9, 1 << 16)).commit()
    replace(vault.store, log(2), other_store.get(log(2)))
    for report in all_checks(vault):
        assert log(2) in {trouble.key for trouble in report.troubles}


def test_a_foreign_object_is_named(written, vault):
    vault.store.put("notes/readme", [b"hello"])
    assert [trouble.key for trouble in check(vault.store).troubles] == ["notes/readme"]


def test_a_damaged_map_is_passed_over(written, vault):
    written.writer.write_map()
    key = next(info.key for info in vault.store.scan(f"vm/{VM}/map/"))
    flip(vault.store, key, vault.store.size(key) - 1)
    assert [trouble.key for trouble in check(vault.store).troubles] == [key]
    written.check_all()


def test_points_before_and_after_a_damaged_entry_are_listed(written, vault):
    flip(vault.store, log(3), 100)
    assert [point.id for point in vault.log(VM).points()] == ["2", "4", "5"]


def test_a_wrong_public_key_is_told(written, vault):
    other = VaultKeys.generate().public_key
    report = check(vault.store, other)
    assert [trouble.key for trouble in report.troubles] == [keyspace.KEYRING]
    assert "not the vault of the public key that was given" in report.troubles[0].what


# --- keys ---------------------------------------------------------------------------------------------------


def test_passphrase_and_recovery_key_open_the_vault():
    store = MemoryStore()
    vault, recovery = Vault.create(store, "correct horse", cost=CHEAP)
    assert Vault.open(store, passphrase="correct horse").keys == vault.keys
    assert Vault.open(store, recovery_key=recovery).keys == vault.keys
    sloppy = recovery.lower().replace("-", " ")
    assert Vault.open(store, recovery_key=f"  {sloppy}\n").keys == vault.keys
    assert VaultKeys.from_bytes(vault.keys.to_bytes()) == vault.keys


def test_wrong_keys_are_told_apart():
    store = MemoryStore()
    _, recovery = Vault.create(store, "correct horse", cost=CHEAP)
    _, other = Vault.create(MemoryStore(), "x", cost=CHEAP)
    with pytest.raises(WrongKey, match="passphrase does not open"):
        Vault.open(store, passphrase="Correct horse")
    with pytest.raises(WrongKey, match="another vault"):
        Vault.open(store, recovery_key=other)
    typo = ("B" if recovery[3] != "B" else "C").join([recovery[:3], recovery[4:]])
    with pytest.raises(WrongKey, match="typing error"):
        Vault.open(store, recovery_key=typo)
    with pytest.raises(WrongKey, match="not a recovery key"):
        Vault.open(store, recovery_key="hello")


def test_the_keys_never_show_in_text(vault):
    assert vault.keys.data_key.hex() not in repr(vault.keys)
    assert repr(vault.keys.seed) not in repr(vault.keys)


def test_no_vault_and_a_vault_already():
    with pytest.raises(NotFound):
        Vault.open(MemoryStore(), passphrase="x")
    store = MemoryStore()
    Vault.create(store, "x", cost=CHEAP)
    with pytest.raises(Refused):
        Vault.create(store, "y", cost=CHEAP)


def test_unknown_points(written, vault):
    for wrong in ("99", "1", "abc", "-3", "²", "9" * 30):
        with pytest.raises(NotFound):
            vault.log(VM).open_point(wrong)
        with pytest.raises(NotFound):
            vault.log(VM).point(wrong)
    with pytest.raises(ObjectNotFound):
        vault.store.get("nothing")
