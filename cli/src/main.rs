//! The `ukikit` program: parse, run, show the error, exit.

mod command;
mod file;
mod output;
mod progress;
mod system;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = command::parse();
    let mut out = output::Output::stdio();
    match arguments.run(&mut out) {
        Ok(status) => status,
        Err(error) => {
            out.error(&error);
            ExitCode::FAILURE
        }
    }
}
