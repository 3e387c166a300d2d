use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_datastore_may_be_called_as_everybody_calls_it() {
    assert!(Cli::try_parse_from(["vdvs", "datastore", "ls"]).is_ok());
    assert!(Cli::try_parse_from(["vdvs", "ds", "ls"]).is_ok());
}

#[test]
fn options_may_stand_before_and_after_the_verb() {
    for line in [
        "vdvs --output json --socket /s volume ls",
        "vdvs volume ls -o json --socket=/s",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.global.output, Output::Json);
        assert_eq!(cli.global.socket, PathBuf::from("/s"));
    }
}
