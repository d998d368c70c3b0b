//! Generated code, run by Python in a process of its own: without network, with limits of time, memory and files.
//!
//! `unshare` of util-linux gives it namespaces of users, networks and processes, `prlimit` its limits, `setpriv` another
//! user where this one is root, and `timeout` of coreutils ends it. Where one of these is missing or not permitted, nothing is run.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::input::read_bounded;
use crate::terminal::visible::visible_line;

/// Seconds that a program may take, and those of a processor.
const SECONDS: [&str; 2] = ["20", "10"];
/// Bytes of memory, and processes.
const LIMITS: [&str; 2] = ["--as=2147483648", "--nproc=256"];
/// Bytes that a program may print.
const OUTPUT: usize = 64 * 1024;

/// Printed behind the tests: a program that ends before them has not passed.
const PASSED: &str = "f8d1b0e2 all tests have passed";

/// A program that passes where no address can be reached.
const PROBE: &str = "\
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))
except OSError:
    pass
else:
    raise RuntimeError('the network is not cut')
";

/// The means to run code.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    python: &'static str,
    /// The commands that make its namespaces, and another user where this one is root.
    apart: &'static [&'static [&'static str]],
}

/// A user namespace of its own.
const USER: &[&str] = &["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"];
/// Namespaces that root makes.
const ROOT: &[&str] = &["unshare", "--net", "--pid", "--fork", "--kill-child"];
/// The kernel counts no processes of root.
const OTHER_USER: &[&str] =
    &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
const BY_USER: &[&[&str]] = &[USER];
/// In the order in which they are tried.
const BY_ROOT: [&[&[&str]]; 2] = [&[ROOT, OTHER_USER], &[OTHER_USER, USER]];

/// A program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It reached its end.
    Passed,
    /// It failed, was stopped, or ended early.
    Failed,
}

/// Code cannot be run here.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    /// The commands are missing, or may not do it.
    #[error(
        "--run-code cannot cut the network for generated code here: {0}; it needs Linux with python3, timeout, prlimit, \
         setpriv and `unshare --user --net --pid`; leave it out, or run in a container that permits user namespaces"
    )]
    Unavailable(String),
    /// A process cannot be started or read.
    #[error("cannot run generated code: {0}")]
    Process(#[from] std::io::Error),
    /// The task was cancelled.
    #[error("the program that runs generated code was stopped")]
    Stopped,
}

impl Sandbox {
    /// Tries the means on a program that passes.
    ///
    /// # Errors
    /// They are missing, not permitted, or do not cut the network.
    pub(super) fn open() -> Result<Self, SandboxError> {
        let means: &[&[&[&str]]] = if is_root() { &BY_ROOT } else { &[BY_USER] };
        let mut reason = String::new();
        for apart in means {
            let sandbox = Self { python: "python3", apart };
            match sandbox.run_here(PROBE) {
                Ok((Verdict::Passed, _)) => return Ok(sandbox),
                Ok((Verdict::Failed, errors)) => {
                    let last = errors.lines().last().unwrap_or("a trial program failed");
                    reason = visible_line(last);
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(SandboxError::Unavailable(reason))
    }

    /// Runs a program on a thread that may wait.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(super) async fn run(self, program: String) -> Result<Verdict, SandboxError> {
        let run = tokio::task::spawn_blocking(move || self.run_here(&program));
        Ok(run.await.map_err(|_| SandboxError::Stopped)??.0)
    }

    /// Runs a program, and says what it wrote to its standard error.
    fn run_here(&self, program: &str) -> std::io::Result<(Verdict, String)> {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", SECONDS[0]]);
        self.apart.iter().for_each(|part| _ = command.args(*part));
        command.args(["prlimit", &format!("--cpu={}", SECONDS[1]), "--core=0", "--fsize=0", "--nofile=64"]);
        command.args(LIMITS).args([self.python, "-I", "-B", "-X", "utf8", "-"]);
        // Generated code learns nothing of this process: keys may stand in its environment.
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take();
        let errors = process.stderr.take();
        let whole = format!("{program}\nprint('\\n{PASSED}')\n");
        let errors = std::thread::spawn(move || errors.and_then(beginning));
        // A program that is stopped while it is read has failed, which its status says.
        let _ = input.map(|mut input| input.write_all(whole.as_bytes()));
        let output = output.and_then(beginning);
        let ended = process.wait()?.success();
        let output = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
        let passed = ended && output.trim_end().ends_with(PASSED);
        let errors = errors.join().ok().flatten().unwrap_or_default();
        let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
        Ok((verdict, String::from_utf8_lossy(&errors).into_owned()))
    }
}

/// True if this process is root's.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Real, effective, saved and file-system user.
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    users.and_then(|users| users.split_whitespace().nth(1)) == Some("0")
}

/// All that a process writes, or `None` if it is too long: the rest is read and dropped until its time is over.
fn beginning(mut source: impl Read) -> Option<Vec<u8>> {
    let bytes = read_bounded(&mut source, OUTPUT).ok()?;
    let _ = std::io::copy(&mut source, &mut std::io::sink());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error is tested where user namespaces are not permitted.
    #[test]
    fn code_runs_without_network_and_with_limits_or_not_at_all() {
        let sandbox = match Sandbox::open() {
            Ok(sandbox) => sandbox,
            Err(error) => {
                assert!(error.to_string().contains("--run-code cannot cut the network"), "{error}");
                return;
            }
        };
        let connect = "import socket\nsocket.create_connection(('127.0.0.1', PORT))\n";
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = connect.replace("PORT", &listener.local_addr().unwrap().port().to_string());
        for (program, verdict) in [
            ("assert 1 + 1 == 2", Verdict::Passed),
            ("assert 1 + 1 == 3", Verdict::Failed),
            ("def f(:", Verdict::Failed),
            ("import sys; sys.exit(0)", Verdict::Failed),
            ("import os; os._exit(0)", Verdict::Failed),
            ("bytearray(4 << 30)", Verdict::Failed),
            // More processes than the limit, as root too.
            (
                "import os, time\nfor _ in range(300):\n    if os.fork() == 0:\n        time.sleep(9)\n        os._exit(0)",
                Verdict::Failed,
            ),
            (
                "import os\nfor _ in range(20):\n    if os.fork() == 0:\n        os._exit(0)\n    os.wait()",
                Verdict::Passed,
            ),
            ("print('x' * 1000000)", Verdict::Failed),
            ("with open('/tmp/unmask-eval-test', 'w') as file: file.write('x')", Verdict::Failed),
            (
                "import os; assert 'UNMASK_API_KEY' not in os.environ and 'HOME' not in os.environ",
                Verdict::Passed,
            ),
            (&connect, Verdict::Failed),
        ] {
            assert_eq!(sandbox.run_here(program).unwrap().0, verdict, "{program}");
        }
        let _ = std::fs::remove_file("/tmp/unmask-eval-test");
    }
}
