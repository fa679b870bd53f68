"""Places that other users can get to."""

from pathlib import Path


def anyones_folder(lab):
    """QEMU runs as a user of its own: it could make no socket in a folder of root's."""
    folder = Path(lab.places.root) / "anyone"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder


def let_pass(folder):
    """Open one of pytest's folders, which are private, and those above it to other users."""
    for place in (folder, *folder.parents):
        if place.name in ("tmp", ""):
            break
        place.chmod(0o755)
    return folder
