"""In what order the files of the tests go to those who run them: what takes long must not begin as the last."""

# Seconds of the files that take longer than most, on two cores without KVM. Roughly: only their order matters.
SECONDS = {
    "lab/scenario/test_scenarios_lab.py": 400,
    "console/test_crash_matrix.py": 310,
    "hypervisors/test_libvirt_pitfalls.py": 250,
    "console/test_plan_kills.py": 200,
    "console/test_unplanned_failback.py": 170,
    "console/test_warm_matrix.py": 165,
    "console/web/test_walk_lab.py": 150,
    "console/web/test_browser.py": 135,
    "lab/test_lab_guests.py": 130,
    "agent/test_outages_lab.py": 120,
    "ports/test_hypervisor.py": 120,
    "console/test_taking_back.py": 115,
    "cli/test_debian_lab.py": 110,
    "cli/test_two_consoles.py": 105,
    "recovery/test_home_lab.py": 105,
    "recovery/test_failover_lab.py": 104,
    "cli/test_warm_lab.py": 101,
    "lab/test_lab_life.py": 100,
    "cli/test_renamed_lab.py": 90,
    "cli/test_failover_lab.py": 85,
    "replication/test_kills_lab.py": 85,
    "agent/test_many_lab.py": 80,
    "agent/test_remote.py": 78,
    "cli/test_commands_lab.py": 75,
    "recovery/test_copies_lab.py": 70,
    "cli/test_plans_lab.py": 65,
    "lab/bench/test_commands_lab.py": 65,
    "console/test_walks.py": 60,
    "lab/test_demo_lab.py": 57,
    "network/discovery/test_scan_lab.py": 55,
    "network/test_reach_lab.py": 50,
    "recovery/test_uefi_lab.py": 50,
    "console/test_window.py": 47,
    "cli/test_commands.py": 45,
    "agent/test_meeting_lab.py": 45,
    "console/test_plans.py": 45,
    "cli/test_remote.py": 40,
    "console/web/test_alerts_browser.py": 40,
    "agent/test_fence_lab.py": 35,
    "agent/test_worker.py": 35,
    "cli/test_agent_commands.py": 35,
    "cli/test_daemon.py": 35,
    "console/test_stories.py": 35,
    "orchestrator/test_engine.py": 30,
    "console/web/test_integrating_browser.py": 30,
}


def longest_first(names):
    """The names of these files, those that take longest first; of the others those first that hold most tests.

    names: of each test its file, below this folder.
    """
    tests = dict.fromkeys(names, 0)
    for name in names:
        tests[name] += 1
    return sorted(tests, key=lambda name: (-SECONDS.get(name, 0), -tests[name]))
