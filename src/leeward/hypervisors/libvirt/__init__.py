"""The libvirt/QEMU driver. Facts about libvirt and QEMU that the code relies on are told where they are used."""
