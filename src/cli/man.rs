//! `man`: the manual pages, made from the definition of the arguments. One page for the program, one for each command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

use super::output;
use super::task::Task;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the pages of the program and of all commands to this directory, which is created if it does not exist.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Args {
    pub(super) fn plan(self, program: Command) -> Task {
        Box::pin(async move {
            // names the commands in full, such as billing-sync-outbox-list
            let mut program = program.disable_help_subcommand(true);
            program.build();
            match self.dir {
                Some(dir) => write_pages(&dir, program)
                    .with_context(|| format!("cannot write the pages to {}", dir.display()))?,
                None => output::print(&text(&page(program))?)?,
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn page(command: Command) -> Man {
    // an empty date would be left out, and what follows would take its place; a real one would differ between builds
    Man::new(command).date(" ").source(concat!("billing-sync ", env!("CARGO_PKG_VERSION"))).manual("billing-sync")
}

fn text(page: &Man) -> anyhow::Result<String> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(String::from_utf8(text)?.trim_end().to_owned())
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(dir: &Path, command: Command) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    for below in command.get_subcommands() {
        write_pages(dir, below.clone())?;
    }
    page(command).generate_to(dir)?;
    Ok(())
}
