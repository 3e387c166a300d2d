use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
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
