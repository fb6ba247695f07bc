//! How many workers the machine, or the container, has room for.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::memory::MemoryGroup;

/// The processors and the memory of the machine or its cgroup, from which `--workers auto` follows. It is read at
/// the start and at each reload, and never held on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// CPUs, by affinity and by the quota of the control group.
    pub cpus: u32,
    /// Memory: the least limit of the control group, or the machine's if that is less. `None` where it is not
    /// told.
    pub memory_kib: Option<u64>,
}

/// What a worker of a middling application takes: Django with some libraries has 60 to 100 MiB, and the kernel's
/// caches want some too.
const WORKER_KIB: u64 = 128 * 1024;

impl Capacity {
    /// What this process may use. `root` is where `/proc` and `/sys` are: `/`, but for tests.
    pub fn of(root: &Path, cpus: u32) -> Self {
        let limit = MemoryGroup::own(root).and_then(|group| group.limit_kib());
        let memory_kib = limit.into_iter().chain(machine_kib(root)).min();
        Self { cpus: cpus.max(1), memory_kib }
    }

    /// One for each CPU, as far as memory goes; at least one.
    pub fn workers(&self) -> u32 {
        self.room().map_or(self.cpus, |room| self.cpus.min(room))
    }

    /// How many the memory has room for.
    fn room(&self) -> Option<u32> {
        self.memory_kib.map(|kib| u32::try_from(kib / WORKER_KIB).unwrap_or(u32::MAX).max(1))
    }
}

/// Why there are so many: `one for each of 4 CPUs`.
impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = match self.cpus {
            1 => "for 1 CPU".to_owned(),
            cpus => format!("one for each of {cpus} CPUs"),
        };
        match self.memory_kib {
            Some(kib) if self.workers() < self.cpus => write!(
                f,
                "{} MiB of memory have room for no more at {} MiB each; else {cpus}",
                kib / 1024,
                WORKER_KIB / 1024
            ),
            _ => f.write_str(&cpus),
        }
    }
}

/// The memory of the machine (proc_meminfo(5)).
fn machine_kib(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::root;

    #[test]
    fn the_lesser_of_group_and_machine_counts() {
        let meminfo = ("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");
        let group =
            |bytes| root(&[meminfo, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", bytes)]);
        for (bytes, kib) in [("536870912\n", 524_288), ("max\n", 8_000_000), ("99999999999\n", 8_000_000)] {
            let expected = Capacity { cpus: 4, memory_kib: Some(kib) };
            assert_eq!(Capacity::of(group(bytes).path(), 4), expected, "{bytes}");
        }
        assert_eq!(Capacity::of(root(&[]).path(), 0), Capacity { cpus: 1, memory_kib: None });
    }

    #[test]
    fn workers_and_why() {
        for (cpus, mib, workers, why) in [
            (1, None, 1, "for 1 CPU"),
            (4, None, 4, "one for each of 4 CPUs"),
            (4, Some(512), 4, "one for each of 4 CPUs"),
            (
                4,
                Some(511),
                3,
                "511 MiB of memory have room for no more at 128 MiB each; else one for each of 4 CPUs",
            ),
            (
                64,
                Some(1),
                1,
                "1 MiB of memory have room for no more at 128 MiB each; else one for each of 64 CPUs",
            ),
        ] {
            let capacity = Capacity { cpus, memory_kib: mib.map(|mib: u64| mib * 1024) };
            assert_eq!((capacity.workers(), capacity.to_string().as_str()), (workers, why));
        }
    }

    #[test]
    fn this_machine_has_some() {
        assert!(Capacity::of(Path::new("/"), 1).memory_kib.is_some_and(|kib| kib > 1024));
    }
}
