import pytest

from leeward.domain.errors import BadInput
from leeward.domain.names import check_host_name


@pytest.mark.parametrize("name", ["a", "north", "kvm-1.example", "N_2", "x" * 63])
def test_what_a_host_may_be_called(name):
    check_host_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", 'x"', "a b", "a\n", "ä", "x" * 64])
def test_what_it_may_not(name):
    with pytest.raises(BadInput) as told:
        check_host_name(name)
    assert told.value.subject == "name"
