"""Whether guests really run under KVM here. /dev/kvm may exist and yet no guest boot on it (nested, PVM)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from leeward.lab.guest import tiny

DEVICE = Path("/dev/kvm")
_PATIENCE_S = 8
_PROOF = b"LEEWARD-PROBE-BOOTED"


def usable(cache: Path) -> bool:
    """Boot a probe guest under KVM, once for each start of this machine; the answer is kept in the cache folder."""
    if not DEVICE.exists() or not DEVICE.stat().st_mode & 0o066:  # root alone: QEMU runs as another user
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache / "kvm.json"
    if memory.exists():
        known = json.loads(memory.read_text())
        if known["boot"] == boot:
            return bool(known["usable"])
    answer = _boots(cache)
    written = memory.with_suffix(".new")
    written.write_text(json.dumps({"boot": boot, "usable": answer}))
    written.rename(memory)
    return answer


def _boots(cache: Path) -> bool:
    kernel, initrd = tiny.boot_probe(cache)
    machine = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "128", "-nodefaults", "-display", "none"]
    boot = ["-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd)]
    # `timeout` and not ours: it ends the probe also when we are killed, and KVM probes that hang, hang for ever.
    guard = ["timeout", "--signal=KILL", str(_PATIENCE_S)]
    done = subprocess.run(
        [*guard, *machine, *boot, "-append", "console=ttyS0 quiet"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return _PROOF in done.stdout
