//! `completions` in a real bash, and the pages of `man`.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use billing_sync::cli::Cli;
use clap::CommandFactory;

use super::{code, run, words};

/// Loads the script, then prints what bash offers for each line, as if Tab was pressed at its end.
const COMPLETE: &str = r#"
source /dev/stdin <<<"$(billing-sync completions bash)"
function=$(complete -p billing-sync | sed 's/.*-F \([^ ]*\) .*/\1/')
for line in "$@"; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    "$function" billing-sync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "$line: ${COMPREPLY[*]}"
done
"#;

#[test]
fn bash_completes_commands_flags_and_values() {
    let folder = Path::new(env!("CARGO_BIN_EXE_billing-sync")).parent().unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
    let offered = [
        ("billing-sync back", "backfill"),
        ("billing-sync outbox ret", "retry"),
        ("billing-sync serve --drain", "--drain-delay"),
        ("billing-sync serve --roles re", "receiver renewals reconcile"),
        ("billing-sync outbox list --sta", "--state"),
        ("billing-sync completions ", "bash elvish fish powershell zsh"),
    ];
    let mut bash = Command::new("bash");
    bash.env_clear().env("PATH", path).args(["-uc", COMPLETE, "bash"]).args(offered.map(|(line, _)| line));
    let output = bash.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let expected = offered.map(|(line, offered)| format!("{line}: {offered}\n")).concat();
    // clap puts -h and --help before the values of an argument without a flag
    assert_eq!(String::from_utf8_lossy(&output.stdout).replace("-h --help ", ""), expected);
}

#[test]
fn every_command_has_a_manual_page_with_its_flags() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man1");
    let output = run(&["man", "--dir", dir.to_str().unwrap()], &[]);
    assert_eq!((code(&output), words(&output.stderr)), (0, String::new()));
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut commands = vec![&program];
    let mut pages = 0;
    while let Some(command) = commands.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let page = fs::read_to_string(dir.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(&format!(".TH {name} 1 ")), "{name}");
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let flag = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&flag), "{name}: {flag}");
        }
        commands.extend(command.get_subcommands());
        pages += 1;
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), pages);
    let first = fs::read_to_string(dir.join("billing-sync.1")).unwrap();
    assert_eq!(String::from_utf8_lossy(&run(&["man"], &[]).stdout).trim_end(), first.trim_end());
}
