//! Arguments, logging, exit code.

fn main() -> std::process::ExitCode {
    understudy::cli::run()
}
