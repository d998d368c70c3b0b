//! A model or a server that answers questions, one after another.

use anyhow::Context;

use super::api::{Api, Source};
use super::question::Question;
use super::run::Run;
use crate::config::{LogArgs, LogFormat, TerminalArgs};
use crate::log::Log;
use crate::panics;
use crate::shutdown::{Signals, Starting};

/// The exit code of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// The API, and the runtime that its engine belongs to.
pub(super) struct Session<'a> {
    args: &'a TerminalArgs,
    api: Api,
    runtime: tokio::runtime::Runtime,
    /// Ends the process at a signal while no question is asked.
    idle: Option<Starting>,
    _log: Log,
}

fn source(args: &TerminalArgs) -> Source<'_> {
    let (url, key) = (args.url.as_ref(), args.api_key.as_ref());
    Source { url, key, model: args.model.as_deref(), load: &args.load }
}

impl<'a> Session<'a> {
    /// Loads the model that the arguments name, or takes their server.
    ///
    /// # Errors
    /// The model cannot be loaded, or the server's URL is none.
    pub(super) fn open(args: &'a TerminalArgs) -> anyhow::Result<Self> {
        let log = LogArgs { log: args.log.clone(), log_format: LogFormat::Text };
        let log = Log::to_stderr(&log).map_err(anyhow::Error::msg)?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        let (idle, api) = {
            // The engine and its routes belong to a runtime, and so do signals.
            let _entered = runtime.enter();
            let signals = Signals::listen().context("cannot listen for signals")?;
            (Starting::watch(signals, None), Api::open(source(args))?)
        };
        Ok(Self { args, api, runtime, idle: Some(idle), _log: log })
    }

    /// True if answers are printed as JSON.
    pub(super) fn prints_json(&self) -> bool {
        self.args.json
    }

    /// Asks, and shows the answer. `None` after a signal, which stops the answer.
    ///
    /// # Errors
    /// As [`Question::ask`].
    pub(super) fn answer(&mut self, question: &Question) -> anyhow::Result<Option<Run>> {
        let Self { args, api, runtime, idle, .. } = self;
        let watch = idle.take();
        panics::as_error(&api.model(), || {
            runtime.block_on(async {
                let mut signals = match watch {
                    Some(watch) => watch.over().await.context("cannot listen for signals")?,
                    None => Signals::listen().context("cannot listen for signals")?,
                };
                let answered = question.ask(api, args, &mut signals).await;
                *idle = Some(Starting::watch(signals, None));
                answered
            })
        })
    }

    /// Asks one question, and ends the process where a signal stops the answer.
    ///
    /// # Errors
    /// As [`Question::ask`].
    pub(super) fn answer_once(mut self, question: &Question) -> anyhow::Result<()> {
        let answered = self.answer(question);
        self.runtime.shutdown_background();
        if answered?.is_none() {
            std::process::exit(INTERRUPTED);
        }
        Ok(())
    }
}
