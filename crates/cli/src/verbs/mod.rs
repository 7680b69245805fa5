//! The verbs, one file each.

mod cancel;
mod completion;
mod delete;
mod doctor;
mod download;
mod follow;
mod frameworks;
mod list;
mod login;
mod logs;
mod monitor;
mod quickstart;
mod rerun;
mod show;
mod store;
mod train;
mod validate;
mod wait;

use crate::{
    Error, Output,
    args::{Arguments, Command, Noun, Verb},
    config::Connection,
};

/// Carries out what was typed.
pub(crate) async fn dispatch(arguments: Arguments, output: &Output) -> Result<(), Error> {
    let Arguments { global, command } = arguments;
    let Command::Verb(verb) = command else {
        return Err(Error::internal("this verb belongs to the binary"));
    };
    match verb {
        Verb::Validate { manifest, set } => return validate::validate(&manifest, &set, output),
        Verb::Schema => return output.data(&trainyard_manifest::json_schema()),
        Verb::Completion { shell } => return completion::completion(shell, output),
        Verb::Login { url } => return login::login(&url, output).await,
        Verb::Doctor => return doctor::doctor(&global, output).await,
        Verb::Quickstart { data } => return quickstart::quickstart(data, output).await,
        Verb::Frameworks | Verb::List { noun: Noun::Frameworks, .. } => {
            return frameworks::frameworks(&global, output).await;
        }
        _ => {}
    }
    let connection = Connection::find(&global)?;
    let client = &connection.client;
    match verb {
        Verb::Train(arguments) => Box::pin(train::train(&connection, &arguments, output)).await,
        Verb::List { limit, all, watch, .. } => list::list(client, limit, all, watch, output).await,
        Verb::Show { run, watch } => show::show(client, &run.words, watch, output).await,
        Verb::Monitor { words } => monitor::monitor(client, &words, output).await,
        Verb::Cancel { run } => cancel::cancel(client, &run.words, output).await,
        Verb::Store { words, name } => store::store(client, &words, name, output).await,
        Verb::Delete { run } => delete::delete(client, &run.words, output).await,
        Verb::Logs(arguments) => logs::logs(client, &arguments, output).await,
        Verb::Wait { run, timeout } => wait::wait(client, &run, timeout.as_deref(), output).await,
        Verb::Download { run, to, only } => {
            Box::pin(download::download(client, &run, to, &only, output)).await
        }
        Verb::Rerun { run, follow } => rerun::rerun(client, &run, follow, output).await,
        Verb::Whoami => login::whoami(&connection, output).await,
        _ => Err(Error::internal("this verb was handled above")),
    }
}

/// The one run that the words name, with nothing behind it.
pub(crate) async fn only_run(client: &trainyard_client::Client, words: &[String]) -> Result<String, Error> {
    if let [run] = crate::ids::after_noun(words) {
        crate::ids::find(client, run).await
    } else {
        let message = format!("`{}` does not name one run", words.join(" "));
        Err(trainyard_api::Problem::new(trainyard_api::Code::Usage, message)
            .hint("write `training-runs ID`, or the run alone")
            .into())
    }
}
