use clap::CommandFactory;

use super::*;
use crate::commands::Cli;

/// Clap itself would refuse `UNMASK_…=1`.
#[test]
fn every_switch_takes_1_from_its_variable() {
    let cli = Cli::command();
    let switches: Vec<_> = std::iter::once(&cli)
        .chain(cli.get_subcommands())
        .flat_map(|command| command.get_arguments())
        .filter(|arg| arg.get_env().is_some() && matches!(arg.get_action(), clap::ArgAction::SetTrue))
        .collect();
    assert!(switches.len() > 3, "{switches:?}");
    for switch in switches {
        let values = switch.get_possible_values();
        assert!(values.iter().any(|value| value.matches("1", true)), "{switch:?}");
    }
}

#[test]
fn the_rows_of_an_evaluation_follow_from_what_a_row_costs() {
    let rows = |per_row: f64, flag: Option<usize>| {
        let engine = EngineArgs {
            max_batch_tokens: flag,
            max_running: 1,
            max_queued_requests: 1,
            kv_cache: None,
            max_queue_time: 1,
        };
        engine.config(CostModel { per_row, ..CostModel::default() }).max_rows
    };
    assert_eq!(rows(1e-4, None), 2500);
    assert_eq!((rows(1e-2, None), rows(1e-9, None)), (256, 8192));
    assert_eq!(rows(1e-4, Some(7)), 7);
}
