"""Whether a folder of this machine can be seen from the nodes of the cluster, as far as this machine can tell."""

import platform
from pathlib import Path

from targen.config.settings import Settings
from targen.runtime import scheduler
from targen.runtime.errors import UserError

LOCAL = frozenset(["tmpfs", "ramfs", "devtmpfs", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"])
MOUNTS = Path("/proc/self/mountinfo")


def check_visible(settings: Settings, folder: Path) -> None:
    """Raises: UserError where `folder` lies on a disk of this machine and jobs run on others."""
    if settings.cluster.shared:
        return
    own = platform.node()
    nodes = [host for host in scheduler.hosts() if host not in (own, own.partition(".")[0])]
    kind = file_system(folder)
    if nodes and (settings.cluster.shared is False or kind in LOCAL):
        raise UserError(
            f"run.dir: got {settings.run.dir}, which lies on a disk of {own} ({kind}) that the nodes ({', '.join(nodes[:3])}"
            f"{', ...' if len(nodes) > 3 else ''}) may not see. Take a run.dir on a shared file system, or, where this one is "
            "exported to them, set cluster.shared=true."
        )


def file_system(path: Path) -> str:
    """The kind of the file system on which a path lies, or would lie; empty where this machine does not say."""
    best, kind = "", ""
    whole = str(path.resolve())
    try:
        lines = MOUNTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        inside = whole == mount or whole.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
