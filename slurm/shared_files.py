"""The shared file system check: whether the cluster's nodes can see a folder, as far as this machine can tell."""

import platform
from pathlib import Path

from targen.config.settings import Settings
from targen.runtime import scheduler
from targen.runtime.errors import UserError

LOCAL = frozenset(["tmpfs", "ramfs", "devtmpfs", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"])
MOUNTS = Path("/proc/self/mountinfo")


def check_shared(settings: Settings, folder: Path) -> None:
    """Raises: UserError if `folder` is on a disk of this machine and jobs run on other machines."""
    if settings.cluster.shared:
        return
    this_host = platform.node()
    other_hosts = [host for host in scheduler.hosts() if host not in (this_host, this_host.partition(".")[0])]
    file_system = file_system_of(folder)
    if other_hosts and (settings.cluster.shared is False or file_system in LOCAL):
        raise UserError(
            f"run.dir: got {settings.run.dir}, which is on a disk of {this_host} ({file_system}) that the nodes "
            f"({', '.join(other_hosts[:3])}{', ...' if len(other_hosts) > 3 else ''}) may not see. Choose a run.dir on a shared "
            "file system. If the nodes can see this one, set cluster.shared=true."
        )


def file_system_of(path: Path) -> str:
    """The type of the file system that holds `path` or would hold it, e.g. ext4; empty if it is unknown."""
    longest_mount, file_system = "", ""
    resolved = str(path.resolve())
    try:
        lines = MOUNTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        is_inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if is_inside and len(mount) >= len(longest_mount):
            longest_mount, file_system = mount, right.split()[0]
    return file_system
