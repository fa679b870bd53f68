"""Where somebody else's tools put what QEMU has to write to."""

from pathlib import Path


def anyones_folder(lab):
    """QEMU runs as a user of its own: it could make no socket in a folder of root's."""
    folder = Path(lab.places.root) / "anyone"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder
