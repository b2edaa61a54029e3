//! Control groups of version 2: one tree (Documentation/admin-guide/cgroup-v2.rst of the kernel).

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::limits::Limits;

use super::{Controller, OWN_PROCESSES, Usage, make, mounted, number, word, write};

const PERIOD_MICROS: u64 = 100_000;

/// The server's group, and what it can limit.
pub(super) fn discover(mounts: &str, own: &str, name: &str) -> Result<(PathBuf, Vec<Controller>), String> {
    let (tree, _) = mounted(mounts, "cgroup2").next().ok_or("there is no control group tree of version 2")?;
    let mut failures = Vec::new();
    for parent in parents(tree, own) {
        match prepare(&parent, name) {
            Ok(found) => return Ok(found),
            Err(error) => failures.push(error),
        }
    }
    Err(failures.join("; "))
}

/// Where the server's group may be: the top, as root; its own place, as an ordinary user.
fn parents(tree: &Path, own: &str) -> Vec<PathBuf> {
    let place = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut parents = vec![tree.to_owned()];
    let place = tree.join(place.trim_start_matches('/'));
    // A server that was moved aside by an earlier start of its own unit.
    let place = match place.parent() {
        Some(above) if place.ends_with(ASIDE) => above.to_owned(),
        _ => place,
    };
    if place != tree {
        parents.push(place);
    }
    parents
}

/// Groups that have members cannot limit groups below them, so the server steps aside.
const ASIDE: &str = "spellbook-server";

fn prepare(parent: &Path, name: &str) -> Result<(PathBuf, Vec<Controller>), String> {
    let had = fs::read_to_string(parent.join("cgroup.controllers"))
        .map_err(|error| format!("{}: {error}", parent.display()))?;
    let controllers = limiting(&had);
    if controllers.is_empty() {
        return Err(format!("{} has none of the controllers memory, pids and cpu", parent.display()));
    }
    let home = parent.join(name);
    make(&home)?;
    if pass_down(parent, &controllers).is_err() {
        let aside = parent.join(ASIDE);
        make(&aside)?;
        write(&aside, "cgroup.procs", &std::process::id()).map_err(|error| error.to_string())?;
        pass_down(parent, &controllers).map_err(|error| error.to_string())?;
    }
    pass_down(&home, &controllers).map_err(|error| error.to_string())?;
    Ok((home, controllers))
}

fn limiting(controllers: &str) -> Vec<Controller> {
    Controller::LIMITING
        .into_iter()
        .filter(|controller| controllers.split_whitespace().any(|name| name == controller.name()))
        .collect()
}

fn pass_down(group: &Path, controllers: &[Controller]) -> io::Result<()> {
    let enabled = fs::read_to_string(group.join("cgroup.subtree_control"))?;
    for controller in controllers {
        if !limiting(&enabled).contains(controller) {
            write(group, "cgroup.subtree_control", &format!("+{}", controller.name()))?;
        }
    }
    Ok(())
}

pub(super) fn limit(home: &Path, controllers: &[Controller], limits: &Limits) -> io::Result<()> {
    for controller in controllers {
        match controller {
            Controller::Memory => {
                write(home, "memory.max", &limits.memory)?;
                if home.join("memory.swap.max").exists() {
                    write(home, "memory.swap.max", &0)?;
                }
            }
            Controller::Pids => {
                write(home, "pids.max", &(u64::from(limits.processes) + u64::from(OWN_PROCESSES)))?;
            }
            Controller::Cpu => write(home, "cpu.max", &quota(limits))?,
            Controller::Cpuacct => {}
        }
    }
    Ok(())
}

fn quota(limits: &Limits) -> String {
    format!("{} {PERIOD_MICROS}", (u64::from(limits.cpu_millis) * PERIOD_MICROS / 1000).max(1000))
}

/// The most memory from now on, as seen by whoever reads this file.
pub(super) fn forget_peak(home: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open(home.join("memory.peak"))?;
    file.write_all(b"reset")?;
    Ok(file)
}

pub(super) fn peak(mut file: &File) -> Option<u64> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

pub(super) fn usage(home: &Path) -> Usage {
    Usage {
        memory_kills: word(home, "memory.events", "oom_kill ").unwrap_or_default(),
        memory_peak: number(home, "memory.peak").unwrap_or_default(),
        cpu: cpu(home),
    }
}

/// Processor time, if it is counted.
pub(super) fn cpu(home: &Path) -> Option<Duration> {
    word(home, "cpu.stat", "usage_usec ").map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use domain::limits::{Limits, MIB};

    use super::super::{Controller, Usage};
    use super::{limit, limiting, parents, quota, usage};

    fn check_parents(own: &str, expect: &[&str]) {
        assert_eq!(parents(Path::new("/cg"), own), expect.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn the_top_is_tried_before_the_own_place() {
        check_parents("0::/\n", &["/cg"]);
        check_parents("0::/user.slice/a.service\n", &["/cg", "/cg/user.slice/a.service"]);
        check_parents("5:pids:/x\n0::/a\n", &["/cg", "/cg/a"]);
        check_parents("0::/a/spellbook-server\n", &["/cg", "/cg/a"]);
    }

    #[test]
    fn controllers_are_read_by_their_whole_names() {
        assert_eq!(
            limiting("cpuset cpu io memory pids\n"),
            [Controller::Memory, Controller::Pids, Controller::Cpu]
        );
        assert_eq!(limiting("cpuset hugetlb"), []);
    }

    /// A directory stands in for the kernel's: the file names and formats are what is tested.
    #[test]
    fn limits_and_counters_are_files() {
        let home = tempfile::tempdir().unwrap();
        let limits = Limits { memory: 64 * MIB, cpu_millis: 1500, processes: 10, ..Limits::DEFAULT };
        limit(home.path(), &Controller::LIMITING, &limits).unwrap();
        let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("pids.max"), "12");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(quota(&Limits { cpu_millis: 1, ..limits }), "1000 100000");

        std::fs::write(home.path().join("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
            .unwrap();
        std::fs::write(home.path().join("memory.peak"), "4096\n").unwrap();
        std::fs::write(home.path().join("cpu.stat"), "usage_usec 1500000\nuser_usec 1\n").unwrap();
        let expect = Usage { memory_kills: 2, memory_peak: 4096, cpu: Some(Duration::from_millis(1500)) };
        assert_eq!(usage(home.path()), expect);
    }
}
