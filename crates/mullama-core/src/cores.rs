//! Counts the physical cores behind the processors that this process may use.

use std::collections::HashSet;
use std::fs::read_to_string;
use std::num::NonZero;

/// Number of physical cores that this process may use: limited by its affinity and its cgroup's quota; hyper-threads do
/// not count.
pub fn usable_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, NonZero::get);
    physical().map_or(logical, |physical| physical.min(logical))
}

/// Number of physical cores under this process's affinity; `None` if the system does not report it (Linux does).
fn physical() -> Option<usize> {
    let status = read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let topology = |processor: usize, what: &str| {
        read_to_string(format!("/sys/devices/system/cpu/cpu{processor}/topology/{what}")).ok()
    };
    let core = |processor| Some((topology(processor, "physical_package_id")?, topology(processor, "core_id")?));
    let cores: Option<HashSet<_>> = processors(list.trim())?.into_iter().map(core).collect();
    cores.map(|cores| cores.len()).filter(|&n| n > 0)
}

/// The numbers of a list in the kernel's format, such as `0-3,8`.
fn processors(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(from.parse::<usize>().ok()?..=to.parse().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_list_is_read_with_ranges_and_single_numbers() {
        assert_eq!(processors("0-2,5,7-7"), Some(vec![0, 1, 2, 5, 7]));
        assert_eq!(processors("none"), None);
    }

    #[test]
    fn there_are_at_most_as_many_cores_as_threads() {
        let logical = std::thread::available_parallelism().unwrap().get();
        assert!((1..=logical).contains(&usable_cores()));
    }
}
