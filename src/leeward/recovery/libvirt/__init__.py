"""Running recovered VMs on libvirt."""
