//! Tests of GPU kernels: on the GPU that UNMASK_TEST_GPU numbers, else on their source compiled for this
//! machine.
//!
//! The latter needs a C++ compiler (`c++`, or the one that CXX names); without one the tests fail.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A GPU, or a kernel's twin.
pub(crate) struct Kernels {
    #[cfg(feature = "cuda")]
    pub(crate) gpu: Option<candle_core::Device>,
    twin: Option<Twin>,
}

impl Kernels {
    /// `source` is the twin's, a file of this crate.
    pub(crate) fn new(source: &str) -> Self {
        #[cfg(feature = "cuda")]
        {
            #[expect(clippy::disallowed_methods, reason = "where this test runs")]
            let gpu = std::env::var("UNMASK_TEST_GPU").ok();
            if let Some(number) = gpu {
                let device = crate::device::cuda::open(number.parse().unwrap()).unwrap();
                return Self { gpu: Some(device), twin: None };
            }
        }
        Self {
            #[cfg(feature = "cuda")]
            gpu: None,
            twin: Some(Twin::compile(source)),
        }
    }

    /// The twin's answer; there is no GPU.
    pub(crate) fn ask_twin(&self, input: &[u8]) -> Vec<u8> {
        self.twin.as_ref().unwrap().run(input)
    }
}

/// The compiled program, in a folder that goes with it.
struct Twin(TempDir);

impl Twin {
    fn compile(source: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "as build tools name the compiler")]
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-o"]);
        let status = command.arg(folder.path().join("twin")).arg(source).status();
        let status = status.unwrap_or_else(|error| {
            panic!("this test needs a C++ compiler, and {compiler} cannot be started ({error}); CXX names another")
        });
        assert!(status.success(), "the kernel's source does not compile");
        Self(folder)
    }

    fn run(&self, input: &[u8]) -> Vec<u8> {
        let path = self.0.path().join("input");
        std::fs::write(&path, input).unwrap();
        let output =
            Command::new(self.0.path().join("twin")).stdin(File::open(&path).unwrap()).output().unwrap();
        assert!(output.status.success(), "the twin failed: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}
