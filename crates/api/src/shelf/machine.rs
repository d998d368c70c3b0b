//! The memory that this process may still take.

use std::path::Path;

/// Rows of an evaluation for which memory is predicted.
const ROWS: usize = 512;

/// Rows of an evaluation for which the memory of a model with so many positions is predicted.
pub(crate) fn evaluation_rows(context: usize) -> usize {
    context.min(ROWS)
}

/// Bytes that are available: what the system has, and no more than the control group may take. `None` where the system
/// does not tell.
#[must_use]
pub fn available_memory() -> Option<usize> {
    let system = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_in(&text));
    let group = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| left_in_group(&text, Path::new("/sys/fs/cgroup")));
    match (system, group) {
        (Some(system), Some(group)) => Some(system.min(group)),
        (system, group) => system.or(group),
    }
}

/// `MemAvailable` of `/proc/meminfo`.
fn available_in(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}

/// Bytes that a control group and those above it leave, by the files below `root`. `None` without a limit.
fn left_in_group(groups: &str, root: &Path) -> Option<usize> {
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let first = groups.lines().find_map(|line| line.split_once(":memory:"));
    if let Some((_, path)) = first {
        let root = root.join("memory");
        return least(&root, path, ["memory.limit_in_bytes", "memory.usage_in_bytes"]);
    }
    least(root, unified?, ["memory.max", "memory.current"])
}

/// The least that any group from `path` up to `root` leaves.
fn least(root: &Path, path: &str, [limit, usage]: [&str; 2]) -> Option<usize> {
    let number = |path: std::path::PathBuf| -> Option<usize> {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let folder = root.join(path.trim_start_matches('/'));
    let folders = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let left = folders.filter_map(|folder| {
        let limit = number(folder.join(limit))?;
        Some(limit.saturating_sub(number(folder.join(usage)).unwrap_or(0)))
    });
    left.min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_system_tells_what_is_available() {
        assert_eq!(available_in("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available_in("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        assert_eq!(left_in_group("0::/a/b\n", root.path()), None);
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "5000\n");
        write("a/memory.current", "1000\n");
        assert_eq!(left_in_group("0::/a/b\n", root.path()), Some(4000));
        write("a/b/memory.max", "300\n");
        assert_eq!(left_in_group("0::/a/b\n", root.path()), Some(300));
        let version_1 = root.path().join("memory/c");
        fs::create_dir_all(&version_1).unwrap();
        fs::write(version_1.join("memory.limit_in_bytes"), "70").unwrap();
        fs::write(version_1.join("memory.usage_in_bytes"), "80").unwrap();
        assert_eq!(left_in_group("4:memory:/c\n0::/a/b\n", root.path()), Some(0));
    }
}
