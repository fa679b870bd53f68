"""The lab's guests: bootable disks that serve HTTP and write numbered, fsynced records (see appd.c)."""
