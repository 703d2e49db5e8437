//! Arguments, logging, exit code.

/// Of those compared it takes the least memory after a burst and gives the most of it back
/// (ARCHITECTURE.md). SQLite, which is C, keeps the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    understudy::cli::run()
}
