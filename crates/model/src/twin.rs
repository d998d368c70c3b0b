//! A kernel's source compiled for this machine, so that it is tested where there is no GPU.
//!
//! Needs a C++ compiler (`c++`, or what CXX names); without one the tests say that they were skipped.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// The compiled program, in a folder that goes with it.
pub(crate) struct Twin(TempDir);

impl Twin {
    /// From a file of this crate; `None` where there is no compiler.
    pub(crate) fn compile(source: &str) -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "as build tools name the compiler")]
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-o"]);
        match command.arg(folder.path().join("twin")).arg(source).status() {
            Ok(status) => assert!(status.success(), "the kernel's source does not compile"),
            Err(error) => {
                eprintln!("skipped: the kernels' twin needs a C++ compiler, and {compiler}: {error}");
                return None;
            }
        }
        Some(Self(folder))
    }

    /// What it answers.
    pub(crate) fn run(&self, input: &[u8]) -> Vec<u8> {
        let path = self.0.path().join("input");
        std::fs::write(&path, input).unwrap();
        let output =
            Command::new(self.0.path().join("twin")).stdin(File::open(&path).unwrap()).output().unwrap();
        assert!(output.status.success(), "the twin failed: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}
