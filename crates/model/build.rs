//! With the feature `cuda`: compiles our kernels to PTX, which the driver compiles for its GPU.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a build script is configured by variables, and fails by panicking"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of each module of kernels, the file in it that is compiled, and what becomes of it.
const KERNELS: [(&str, &str, &str); 2] =
    [("src/backbone/cuda", "kernels.cu", "backbone.ptx"), ("src/readout/cuda", "readout.cu", "readout.ptx")];
/// Names a folder with libraries to link against before those of the toolkit.
const LIBRARIES: &str = "UNMASK_CUDA_LIBRARIES";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for variable in ["CUDA_HOME", "CUDA_COMPUTE_CAP", "NVCC", LIBRARIES] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if let Ok(folder) = env::var(LIBRARIES) {
        println!("cargo::rustc-link-search=native={folder}");
    }
    let version = run(Command::new(nvcc()).arg("--version"));
    // Its libraries are named after it: libcublas.so.13.
    let major = version.split("release ").nth(1).and_then(|rest| rest.split('.').next());
    println!("cargo::rustc-env=UNMASK_CUDA_MAJOR={}", major.expect("`nvcc --version` names a release"));
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_owned());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (folder, source, ptx) in KERNELS {
        println!("cargo::rerun-if-changed={folder}");
        // Products and sums are rounded one by one, as on the CPU, but where a kernel asks for both in one.
        let mut command = Command::new(nvcc());
        command.args(["-ptx", "-std=c++17", "-O3", "-fmad=false"]).arg(format!("-arch=compute_{capability}"));
        run(command.arg("-o").arg(out.join(ptx)).arg(Path::new(folder).join(source)));
    }
}

fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    env::var_os("CUDA_HOME").map_or_else(|| "nvcc".into(), |home| Path::new(&home).join("bin/nvcc"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("the feature `cuda` needs nvcc (on the PATH, in CUDA_HOME, or named by NVCC): {command:?}: {error}")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
