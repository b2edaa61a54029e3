//! Builds the first process of a jail, a freestanding static program, for `include_bytes!`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

#[expect(clippy::disallowed_methods, reason = "a build script is told everything by its environment")]
fn main() {
    println!("cargo::rerun-if-changed=init/init.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut compiler = Command::new(variable("RUSTC"));
    compiler
        .args(["--edition=2024", "--crate-name=init", "--crate-type=bin", "--target"])
        .arg(variable("TARGET"))
        .args(["-Cpanic=abort", "-Copt-level=s", "-Crelocation-model=static", "-Cstrip=symbols"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        // Small and one piece: it is copied into every prepared root and mapped at every start.
        .args(["-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,norelro", "-Clink-arg=-no-pie"]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    let status = compiler.arg("init/init.rs").arg("-o").arg(&program).status();
    let status = status.unwrap_or_else(|error| panic!("rustc for init/init.rs did not start: {error}"));
    assert!(status.success(), "init/init.rs did not compile");
}
