//! How much memory a process uses, how much its control group allows, and how many processes were killed for
//! exceeding that, as the kernel's files tell it.
//!
//! `root` is where `/proc` and `/sys` are: `/`, but for tests. Everything is optional: a container may hide any of
//! these files.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The memory of a process, in KiB (proc_pid_smaps(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory.
    pub rss_kib: u64,
    /// Proportional memory: what it shares with others counts by its share.
    pub pss_kib: u64,
    /// Resident and shared with other processes.
    pub shared_kib: u64,
    /// Resident and its own.
    pub private_kib: u64,
}

/// The control group that this process' memory is charged to.
#[derive(Clone, Debug)]
pub(crate) struct MemoryGroup {
    version: CgroupVersion,
    /// From the process' own group up to the root of the hierarchy.
    folders: Vec<PathBuf>,
}

/// The interface of control groups that the machine has: files have other names in each.
#[derive(Clone, Copy, Debug)]
enum CgroupVersion {
    One,
    Two,
}

/// Version 1 of cgroups writes the largest multiple of a page where there is no limit; nobody means so much.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Resident memory of a process in KiB. Costs some microseconds.
pub fn resident_kib(root: &Path, pid: u32) -> Option<u64> {
    // Not statm, which counts pages: rustix's way to their size does not survive valgrind.
    number_after(&fs::read_to_string(root.join(format!("proc/{pid}/status"))).ok()?, "VmRSS:")
}

impl Footprint {
    /// That of a process. The kernel walks through all of its memory: milliseconds for gigabytes.
    pub fn of(root: &Path, pid: u32) -> Option<Self> {
        let text = fs::read_to_string(root.join(format!("proc/{pid}/smaps_rollup"))).ok()?;
        let kib = |name: &str| number_after(&text, name);
        Some(Self {
            rss_kib: kib("Rss:")?,
            pss_kib: kib("Pss:")?,
            shared_kib: kib("Shared_Clean:")? + kib("Shared_Dirty:")?,
            private_kib: kib("Private_Clean:")? + kib("Private_Dirty:")?,
        })
    }
}

impl MemoryGroup {
    /// The group of this process; its children are in the same one.
    pub(crate) fn own(root: &Path) -> Option<Self> {
        let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        // "4:memory:/a/b" of version 1, "0::/a/b" of version 2 (cgroups(7)). Where both are mounted, memory
        // belongs to one of them: to version 1 if it is listed there.
        let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let one = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
        let (version, mount, path) = match one {
            Some((_, path)) => (CgroupVersion::One, root.join("sys/fs/cgroup/memory"), path),
            None => {
                let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
                (CgroupVersion::Two, root.join("sys/fs/cgroup"), path)
            }
        };
        Some(Self { version, folders: folders(&mount, Path::new(path)) })
    }

    /// The least limit on its memory, its own or one above it; `None` if there is none.
    pub(crate) fn limit_kib(&self) -> Option<u64> {
        let name = match self.version {
            CgroupVersion::One => "memory.limit_in_bytes",
            CgroupVersion::Two => "memory.max", // "max" where there is none
        };
        let limits = self.folders.iter().filter_map(|folder| {
            let bytes: u64 = fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()?;
            (bytes < UNLIMITED_BYTES).then_some(bytes / 1024)
        });
        limits.min()
    }

    /// How many processes of the group the kernel has killed for want of memory since the group was made, the
    /// group's or the machine's.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let name = match self.version {
            CgroupVersion::One => "memory.oom_control",
            CgroupVersion::Two => "memory.events",
        };
        // The nearest group that has the file is the one that the process' memory is charged to.
        let text = self.folders.iter().find_map(|folder| fs::read_to_string(folder.join(name)).ok())?;
        number_after(&text, "oom_kill")
    }
}

/// The folders of the group `path` and of those above it. In a container the upper part of `path` is that of the
/// host, and not to be seen: what is mounted is the container's own group then.
fn folders(mount: &Path, path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter(|component| *component != Component::RootDir);
    let inside = path.components().all(|component| component != Component::ParentDir);
    let own = if inside { mount.join(names.collect::<PathBuf>()) } else { mount.to_owned() };
    own.ancestors().take_while(|folder| folder.starts_with(mount)).map(Path::to_owned).collect()
}

/// The number in the line whose first word is `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::root;

    const ROLLUP: &str = "\
5652ac3c2000-7ffc6bb3d000 ---p 00000000 00:00 0                          [rollup]
Rss:                1728 kB
Pss:                 286 kB
Pss_Dirty:           116 kB
Shared_Clean:       1000 kB
Shared_Dirty:        576 kB
Private_Clean:        36 kB
Private_Dirty:       116 kB
Swap:                  0 kB
";

    #[test]
    fn what_a_process_weighs() {
        let status = "Name:\tportico\nVmHWM:\t    1800 kB\nVmRSS:\t    1728 kB\nThreads:\t7\n";
        let root = root(&[("proc/7/status", status), ("proc/7/smaps_rollup", ROLLUP)]);
        assert_eq!(resident_kib(root.path(), 7), Some(1728));
        let expected = Footprint { rss_kib: 1728, pss_kib: 286, shared_kib: 1576, private_kib: 152 };
        assert_eq!(Footprint::of(root.path(), 7), Some(expected));
        assert_eq!((resident_kib(root.path(), 8), Footprint::of(root.path(), 8)), (None, None));
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let pid = std::process::id();
        let rss = resident_kib(Path::new("/"), pid).unwrap();
        let footprint = Footprint::of(Path::new("/"), pid).unwrap();
        assert!(footprint.pss_kib <= footprint.rss_kib && footprint.private_kib <= footprint.pss_kib);
        assert!(rss > 500 && footprint.rss_kib.abs_diff(rss) < 64 * 1024, "{rss} {footprint:?}");
    }

    #[test]
    fn version_two_takes_the_least_limit_and_the_nearest_counter() {
        let root = root(&[
            ("proc/self/cgroup", "0::/pod/app/init\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "536870912\n"),
            (
                "sys/fs/cgroup/pod/memory.events",
                "low 0\nhigh 0\nmax 9\noom 3\noom_kill 5\noom_group_kill 1\n",
            ),
            ("sys/fs/cgroup/pod/app/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/pod/app/memory.events", "low 0\noom 2\noom_kill 2\n"),
        ]);
        let group = MemoryGroup::own(root.path()).unwrap();
        assert_eq!((group.limit_kib(), group.oom_kills()), (Some(512 * 1024), Some(2)));
        fs::write(root.path().join("sys/fs/cgroup/pod/app/memory.events"), "oom_kill 3\n").unwrap();
        assert_eq!(group.oom_kills(), Some(3), "it is read anew");
    }

    #[test]
    fn version_one_beside_a_version_two_without_memory() {
        let root = root(&[
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n"),
            // What a container sees is its own group, mounted as the root.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n"),
            ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
        ]);
        let group = MemoryGroup::own(root.path()).unwrap();
        assert_eq!((group.limit_kib(), group.oom_kills()), (Some(100 * 1024), Some(4)));
        fs::write(root.path().join("sys/fs/cgroup/memory/memory.limit_in_bytes"), "9223372036854771712\n")
            .unwrap();
        assert_eq!(group.limit_kib(), None);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_read_at_the_mount() {
        let root = root(&[
            ("proc/self/cgroup", "0::/../../other\n"),
            ("sys/fs/cgroup/memory.max", "1048576\n"),
            ("other/memory.max", "1024\n"),
        ]);
        let group = MemoryGroup::own(root.path()).unwrap();
        assert_eq!((group.limit_kib(), group.oom_kills()), (Some(1024), None));
    }

    #[test]
    fn nothing_is_told_where_nothing_is_to_be_seen() {
        assert!(MemoryGroup::own(root(&[]).path()).is_none());
        assert!(MemoryGroup::own(root(&[("proc/self/cgroup", "garbage\n1:cpu:/\n")]).path()).is_none());
        let group = MemoryGroup::own(root(&[("proc/self/cgroup", "0::/a\n")]).path()).unwrap();
        assert_eq!((group.limit_kib(), group.oom_kills()), (None, None));
    }
}
