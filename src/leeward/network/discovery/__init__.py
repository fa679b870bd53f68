"""Host discovery: a scan of address ranges for hypervisor hosts.

ranges, pace, signs, verdicts, libvirt_rpc, wsman and installing are pure; talk, languages, knocking, looking_up,
neighbours, scanning and scans act.
"""
