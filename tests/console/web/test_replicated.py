"""Home's short list of protected VMs."""

from tests.console.web.test_rows import a_moment, vm_status

from leeward.console.web.replicated import replicated


def test_who_is_late_comes_first_then_by_name():
    late = vm_status("zeta", rpo_actual_s=60.0)
    others = [vm_status(name) for name in ("mail", "crm", "build", "web", "db", "dns")]
    found = replicated(a_moment(*others, late, vm_status("off", "disabled")))
    assert [row.name for row in found.rows] == ["zeta", "build", "crm", "db", "dns", "mail"]
    assert found.count == 7


def test_a_curve_needs_two_values():
    found = replicated(a_moment(vm_status("web")))
    assert found.spark(found.rows[0]) is None
