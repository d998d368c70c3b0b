//! The arenas of the system's allocator: the stretches of memory that it hands out pieces of.

/// Bytes of a piece of memory from which on it lies outside the arenas, and is given back at once. glibc would raise the number
/// with the first such piece that is freed, and keep what loading a model needs for a while.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 20;

/// Lets the threads of four cores share one arena. glibc makes eight for each core, and what one thread reserves and another
/// one frees leaves holes in all of them: under a load of large bodies and answers the memory of a server on two cores went
/// from 209 to 321 MB in nine minutes, and on; with one arena it stays at 100. `MALLOC_ARENA_MAX` in the environment wins. To
/// be called before there are other threads; other systems need nothing.
pub fn share_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arenas = i32::try_from(cores.div_ceil(4)).unwrap_or(i32::MAX);
        // SAFETY: the calls set numbers that the allocator reads when it is asked for memory; they take no pointer, and no
        // other thread runs yet.
        #[expect(unsafe_code, reason = "the allocator can be told in no other way")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
