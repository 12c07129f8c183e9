//! How much memory there is for this process: what the machine has, within the limits of its control groups and of its
//! address space. What networks take is reckoned elsewhere.

use std::fs;

/// Bytes that this process can have now, where the system tells.
pub(crate) fn free() -> Option<u64> {
    least(&|path| fs::read_to_string(path).ok())
}

/// The least of what the files of a system say.
fn least(file: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    [available(file), in_groups(file), in_address_space(file)]
        .into_iter()
        .flatten()
        .min()
}

/// The number of a line that begins with `name`, as it stands there.
fn number(text: &str, name: &str) -> Option<u64> {
    let lines = text.lines();
    let mut rests = lines.filter_map(|line| line.strip_prefix(name));
    rests.find_map(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// What the machine has.
fn available(file: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let kib = number(&file("/proc/meminfo")?, "MemAvailable:")?;
    kib.checked_mul(1024)
}

/// What the control groups leave, of version 1 or 2: each group above limits those in it. Caches of files that nobody
/// uses give way, as they do on the machine.
fn in_groups(file: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in file("/proc/self/cgroup")?.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, limit, usage, inactive) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
        } else if controllers.split(',').any(|name| name == "memory") {
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        } else {
            continue;
        };
        // Seen from a container, the group may be the root.
        let mut group = group.trim_end_matches('/');
        loop {
            let read = |name: &str| file(&format!("{root}{group}/{name}"));
            let bytes = |name: &str| read(name)?.trim().parse::<u64>().ok();
            // `max` is no number.
            if let (Some(limit), Some(usage)) = (bytes(limit), bytes(usage)) {
                let unused = read("memory.stat").and_then(|stat| number(&stat, inactive));
                let left = limit.saturating_sub(usage.saturating_sub(unused.unwrap_or(0)));
                least = Some(least.map_or(left, |least| least.min(left)));
            }
            match group.rfind('/') {
                Some(end) => group = &group[..end],
                None => break,
            }
        }
    }
    least
}

/// What `ulimit -v` leaves.
fn in_address_space(file: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    // `unlimited` is no number.
    let limit = number(&file("/proc/self/limits")?, "Max address space")?;
    let used = number(&file("/proc/self/status")?, "VmSize:")?;
    Some(limit.saturating_sub(used.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:  64 kB\nMemAvailable:      50 kB\n");

    fn of(files: &[(&str, &str)]) -> Option<u64> {
        let read = |path: &str| {
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        least(&read)
    }

    #[test]
    fn it_is_what_the_machine_has_where_nothing_limits_it() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[MACHINE]), Some(50 * 1024));
        let unlimited = [
            MACHINE,
            ("/proc/self/cgroup", "0::/user.slice/a\n"),
            ("/sys/fs/cgroup/user.slice/a/memory.max", "max\n"),
            ("/sys/fs/cgroup/user.slice/a/memory.current", "100\n"),
            (
                "/proc/self/limits",
                "Max address space         unlimited            unlimited            bytes\n",
            ),
            ("/proc/self/status", "VmSize:\t   10 kB\n"),
        ];
        assert_eq!(of(&unlimited), Some(50 * 1024));
    }

    #[test]
    fn control_groups_limit_it_and_those_above_them() {
        let second = [
            MACHINE,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "30000\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "10000\n"),
            (
                "/sys/fs/cgroup/a/b/memory.stat",
                "anon 6000\ninactive_file 4000\n",
            ),
        ];
        assert_eq!(of(&second), Some(24_000));
        let above = [
            ("/sys/fs/cgroup/a/memory.max", "20000\n"),
            ("/sys/fs/cgroup/a/memory.current", "20001\n"),
        ];
        assert_eq!(of(&[&second[..], &above].concat()), Some(0));
        let first = [
            MACHINE,
            ("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n"),
            (
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "100\n"),
            // In a container: what it calls /x is its root.
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "2000\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "inactive_file 7\ntotal_inactive_file 500\n",
            ),
        ];
        assert_eq!(of(&first), Some(3_500));
    }

    #[test]
    fn the_address_space_limits_it() {
        let limited = [
            MACHINE,
            (
                "/proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax address space         40000 50000 bytes\n",
            ),
            ("/proc/self/status", "Name:\tdacapo\nVmSize:\t   10 kB\n"),
        ];
        assert_eq!(of(&limited), Some(40_000 - 10 * 1024));
    }
}
