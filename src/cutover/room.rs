//! What is left of this machine for the proxy: memory, and the disk beside the ledger. A cutover opens a
//! second connection for each session, and must be able to record its switch.

use super::guards::Memory;
use std::path::Path;

/// The memory of this process. What is left is the least of what the machine has available and what each
/// of its cgroups allows. Reads files of the kernel.
pub(super) fn memory() -> Memory {
    let statm = read("/proc/self/statm");
    let pages = statm.split_whitespace().nth(1);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    let page = rustix::param::page_size() as u64;
    let groups = groups(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    Memory {
        resident: pages.map(|pages| pages.saturating_mul(page)),
        left: available(&read("/proc/meminfo"))
            .into_iter()
            .chain(groups)
            .min(),
    }
}

/// Free bytes for us beside the ledger, where that can be told.
pub(super) fn disk(ledger: &Path) -> Option<u64> {
    let beside = match ledger.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    let disk = rustix::fs::statvfs(beside).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `MemAvailable:   23487176 kB`
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The names of a cgroup's files, in version 2 and in version 1.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Of the used, what the kernel gives back before it refuses any: the cache of files, whether they were
    /// read lately or not, and its own caches. A ledger that is read and written fills the first.
    given_back: &'static [&'static str],
}

const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    given_back: &["inactive_file ", "active_file ", "slab_reclaimable "],
};

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    given_back: &["total_inactive_file ", "total_active_file "],
};

/// What each cgroup that this process is in has left, from its own one upwards. `told` is
/// `/proc/self/cgroup`: lines such as `0::/user.slice/understudy.service`, `4:memory:/docker/…`.
fn groups(told: &str, mounted: &Path) -> Vec<u64> {
    let mut left = Vec::new();
    for line in told.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, files) = match kinds {
            "" => (mounted.to_owned(), V2),
            kinds if kinds.split(',').any(|kind| kind == "memory") => (mounted.join("memory"), V1),
            _ => continue,
        };
        // Within a container the path may be the host's; what is mounted there is then the root.
        for below in Path::new(path.trim_start_matches('/')).ancestors() {
            left.extend(left_in(&root.join(below), &files));
        }
    }
    left
}

/// None where there is no limit.
fn left_in(group: &Path, files: &Files) -> Option<u64> {
    let number = |name: &str| read(group.join(name)).trim().parse::<u64>().ok();
    let (limit, used) = (number(files.limit)?, number(files.used)?);
    let stat = read(group.join("memory.stat"));
    let given_back = stat.lines().filter_map(|line| {
        let mut names = files.given_back.iter();
        let number = names.find_map(|name| line.strip_prefix(name))?;
        number.trim().parse::<u64>().ok()
    });
    let given_back = given_back.fold(0, u64::saturating_add);
    Some(limit.saturating_sub(used.saturating_sub(given_back)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(at: &Path, limit: &str, files: [(&str, &str); 2]) {
        std::fs::create_dir_all(at).unwrap();
        let [(limit_name, used_name), (used, stat)] = files;
        std::fs::write(at.join(limit_name), limit).unwrap();
        std::fs::write(at.join(used_name), used).unwrap();
        std::fs::write(at.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn of_nested_cgroups_each_limit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let names = (V2.limit, V2.used);
        let stat =
            "anon 10\nfile 999\ninactive_file 100\nactive_file 70\nslab_reclaimable 30\nslab 50\n";
        let slice = dir.path().join("system.slice");
        group(&slice, "5000\n", [names, ("1000\n", stat)]);
        let service = slice.join("understudy.service");
        group(&service, "max\n", [names, ("900\n", stat)]);
        let told = "0::/system.slice/understudy.service\n";
        assert_eq!(groups(told, dir.path()), [4200]);
        group(&service, "2000\n", [names, ("900\n", stat)]);
        assert_eq!(groups(told, dir.path()), [1300, 4200]);
        assert!(groups("0::/elsewhere\n", dir.path()).is_empty());
    }

    #[test]
    fn of_the_first_version_only_the_memorys_hierarchy_counts() {
        let dir = tempfile::tempdir().unwrap();
        let names = (V1.limit, V1.used);
        let at = dir.path().join("memory");
        group(
            &at,
            "3000\n",
            [
                names,
                (
                    "1000\n",
                    "active_file 500\ntotal_inactive_file 1\ntotal_active_file 4\n",
                ),
            ],
        );
        let told = "9:name=systemd:/\n4:cpu,memory:/docker/abc\n3:cpuset:/\n0::/\n";
        assert_eq!(groups(told, dir.path()), [2005]);
    }

    #[test]
    fn this_process_has_some_memory_and_the_machine_has_more() {
        assert_eq!(
            available("MemFree: 1 kB\nMemAvailable:   5 kB\n"),
            Some(5120)
        );
        let memory = memory();
        assert!(
            memory.resident.is_some_and(|bytes| bytes > 1 << 20),
            "{memory:?}"
        );
        assert!(memory.left.is_some(), "{memory:?}");
        assert!(disk(Path::new("ledger.db")).is_some());
    }
}
