//! Control groups of version 1: a tree for each controller.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::limits::Limits;

use super::{Controller, OWN_PROCESSES, Usage, make, mounted, number, word, write};

const PERIOD_MICROS: u64 = 100_000;
const CONTROLLERS: [Controller; 4] =
    [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Cpuacct];

/// The server's group in each tree. Controllers that share a tree are told once.
pub(super) fn discover(mounts: &str, name: &str) -> Vec<(Controller, Result<PathBuf, String>)> {
    trees(mounts)
        .into_iter()
        .map(|(controller, tree)| {
            let home = tree.join(name);
            (controller, make(&home).map(|()| home))
        })
        .collect()
}

fn trees(mounts: &str) -> Vec<(Controller, PathBuf)> {
    let mut found: Vec<(Controller, PathBuf)> = Vec::new();
    for controller in CONTROLLERS {
        let tree = mounted(mounts, "cgroup")
            .find(|(_, options)| options.split(',').any(|option| option == controller.name()));
        let Some((tree, _)) = tree else { continue };
        // `cpu` and `cpuacct` are often one tree; the second would be made and entered for nothing.
        if controller == Controller::Cpuacct && found.iter().any(|(_, there)| there == tree) {
            continue;
        }
        found.push((controller, tree.to_owned()));
    }
    found
}

pub(super) fn limit(trees: &[(Controller, PathBuf)], limits: &Limits) -> io::Result<()> {
    for (controller, tree) in trees {
        match controller {
            Controller::Memory => {
                write(tree, "memory.limit_in_bytes", &limits.memory)?;
                // Only where swap is counted at all; it must not be below the line before.
                if tree.join("memory.memsw.limit_in_bytes").exists() {
                    write(tree, "memory.memsw.limit_in_bytes", &limits.memory)?;
                }
            }
            Controller::Pids => {
                write(tree, "pids.max", &(u64::from(limits.processes) + u64::from(OWN_PROCESSES)))?;
            }
            Controller::Cpu => {
                write(tree, "cpu.cfs_period_us", &PERIOD_MICROS)?;
                write(tree, "cpu.cfs_quota_us", &quota(limits))?;
            }
            Controller::Cpuacct => {}
        }
    }
    Ok(())
}

/// Microseconds of each period; the kernel takes no less than a thousand.
fn quota(limits: &Limits) -> u64 {
    (u64::from(limits.cpu_millis) * PERIOD_MICROS / 1000).max(1000)
}

/// The most memory is counted from what is used now.
pub(super) fn forget_peak(trees: &[(Controller, PathBuf)]) -> io::Result<()> {
    let mut memory = trees.iter().filter(|(controller, _)| *controller == Controller::Memory);
    memory.try_for_each(|(_, tree)| write(tree, "memory.max_usage_in_bytes", &0))
}

pub(super) fn usage(trees: &[(Controller, PathBuf)]) -> Usage {
    let tree =
        |wanted| trees.iter().find(|(controller, _)| *controller == wanted).map(|(_, tree)| tree.as_path());
    let memory = tree(Controller::Memory).unwrap_or(Path::new("/nonexistent"));
    Usage {
        memory_kills: word(memory, "memory.oom_control", "oom_kill ").unwrap_or_default(),
        memory_peak: number(memory, "memory.max_usage_in_bytes").unwrap_or_default(),
        cpu: cpu(trees),
    }
}

/// Processor time, if it is counted.
pub(super) fn cpu(trees: &[(Controller, PathBuf)]) -> Option<Duration> {
    let mut counting =
        trees.iter().rev().filter(|(of, _)| matches!(of, Controller::Cpuacct | Controller::Cpu));
    counting.find_map(|(_, tree)| number(tree, "cpuacct.usage")).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::{Controller, trees};

    fn check(mounts: &str, expect: &[(Controller, &str)]) {
        let found = trees(mounts);
        let found: Vec<_> =
            found.iter().map(|(controller, tree)| (*controller, tree.to_str().unwrap())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn trees_are_found_by_their_options() {
        use Controller::{Cpu, Cpuacct, Memory, Pids};
        check(
            "33 32 0:28 / /cg/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             34 32 0:29 / /cg/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
             36 32 0:31 / /cg/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
             37 32 0:31 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n",
            &[(Memory, "/cg/memory"), (Cpu, "/cg/cpu"), (Cpuacct, "/cg/cpuacct")],
        );
        check(
            "33 32 0:28 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             34 32 0:29 / /cg/pids rw - cgroup cgroup rw,pids\n",
            &[(Pids, "/cg/pids"), (Cpu, "/cg/cpu,cpuacct")],
        );
        check("36 32 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", &[]);
    }
}
