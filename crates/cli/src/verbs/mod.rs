//! The verbs, one file each.

mod cancel;
mod completion;
mod definitions;
mod delete;
mod doctor;
mod download;
mod follow;
mod frameworks;
mod generate_manifest;
mod list;
mod login;
mod logs;
mod models;
mod monitor;
mod quickstart;
mod rerun;
mod show;
mod store;
mod train;
mod validate;
mod version;
mod wait;

use trainyard_api::{Code, Finding};

use crate::{
    Error, Output,
    args::{Arguments, Command, ModelsVerb, Verb},
    config::Connection,
    nouns::Noun,
};

/// Carries out what was typed.
pub(crate) async fn dispatch(
    arguments: Arguments,
    found: Vec<Finding>,
    output: &Output,
) -> Result<(), Error> {
    let Arguments { global, command } = arguments;
    let Command::Verb(verb) = command else {
        return Err(Error::internal("this verb belongs to the binary"));
    };
    match verb {
        Verb::Validate { manifest, set } => return validate::validate(&manifest, &set, output),
        Verb::Schema => return output.data(&trainyard_manifest::json_schema()),
        Verb::Completion { shell } => return completion::completion(shell, output),
        Verb::Login { url, user } => return login::login(&url, user.as_deref(), output).await,
        Verb::Doctor { .. } => return doctor::doctor(&global, found, output).await,
        Verb::Quickstart { data } => return quickstart::quickstart(data, output).await,
        Verb::GenerateManifest { kind } => return generate_manifest::generate_manifest(&kind, output),
        Verb::Version => return version::version(output),
        Verb::Frameworks | Verb::List { noun: Noun::Frameworks, .. } => {
            return frameworks::frameworks(&global, output).await;
        }
        _ => {}
    }
    let connection = Connection::find(&global)?;
    let client = &connection.client;
    match verb {
        Verb::Train(arguments) => Box::pin(train::train(&connection, &arguments, output)).await,
        Verb::List { noun, limit, all, watch } => {
            let limit = if all { u32::MAX } else { limit };
            if watch && noun != Noun::TrainingRuns {
                return Err(Error::new(Code::Usage, "only training runs can be watched"));
            }
            match noun {
                Noun::TrainingRuns => list::list(client, limit, watch, output).await,
                Noun::TrainingDefinitions => definitions::list(client, limit, output).await,
                Noun::Models => models::list(client, limit, output).await,
                other => Err(other.refuse("list")),
            }
        }
        Verb::Show { one, watch } => match Noun::only(&one.words)? {
            (Noun::TrainingRuns, run) => show::show(client, run, watch, output).await,
            (Noun::TrainingDefinitions | Noun::Models, _) if watch => {
                Err(Error::new(Code::Usage, "only training runs can be watched"))
            }
            (Noun::TrainingDefinitions, id) => definitions::show(client, id, output).await,
            (Noun::Models, id) => models::show(client, id, output).await,
            (other, _) => Err(other.refuse("show")),
        },
        Verb::Monitor { words } => monitor::monitor(client, &words, output).await,
        Verb::Cancel { run } => cancel::cancel(client, &run.words, output).await,
        Verb::Store { words, name } => store::store(client, &words, name, output).await,
        Verb::Delete { one } => match Noun::only(&one.words)? {
            (Noun::TrainingRuns, run) => delete::delete(client, run, output).await,
            (Noun::TrainingDefinitions, id) => definitions::delete(client, id, output).await,
            (Noun::Models, id) => models::delete(client, id, output).await,
            (other, _) => Err(other.refuse("delete")),
        },
        Verb::Models { verb: ModelsVerb::Download { model, to } } => {
            models::download(client, &model, to, output).await
        }
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
    match Noun::only(words)? {
        (Noun::TrainingRuns, run) => crate::ids::find(client, run).await,
        (other, _) => Err(other.refuse("cancel")),
    }
}

/// What stands below a list.
pub(crate) fn closing(output: &Output, found: usize, original: &str) {
    if output.is_for_people() {
        output.talk(&format!("\n{found} records found."));
        if output.is_original() {
            output.talk(&format!("OK\n{original}"));
        }
    }
}
