//! Runs that keep the world busy, and what their owner does with them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::world::{Known, SLOTS, World};
use crate::harness::{Yard, code_folder};

/// Longest wait for the store, which may stand still or be dead by now.
pub const ANSWER: Duration = Duration::from_millis(500);
/// The program.
const WORK: &str = include_str!("work.py");

/// What every submission has in common.
pub struct Load {
    definition: String,
    connection: Value,
    count: u32,
}

impl Load {
    /// Makes the definition that all runs share. Their store is behind `proxy`.
    pub fn prepare(yard: &Yard, proxy: SocketAddr) -> Self {
        let code = code_folder(yard.dir.path(), &[("work.py", WORK)]);
        let id = yard.train_code(&code, &yard.manifest("first", "true"));
        assert_eq!(yard.wait_end(&id)["state"], "completed");
        let run = yard.run(&id);
        let definition = run["entity"]["model_definition"]["definition_href"].as_str().unwrap().to_owned();
        let connection = json!({
            "endpoint_url": format!("http://{proxy}"),
            "access_key_id": yard.store.access_key_id,
            "secret_access_key": yard.store.secret_access_key.expose(),
        });
        Self { definition, connection, count: 0 }
    }

    fn body(&self, yard: &Yard, name: &str, command: &str) -> Vec<u8> {
        let body = json!({
            "model_definition": {
                "name": name,
                "framework": {"name": "custom", "version": "1"},
                "definition_href": self.definition,
                "execution": {"command": command, "compute_configuration": {"name": "cpu"}},
            },
            "training_data_reference":
                {"type": "s3", "connection": self.connection, "source": {"bucket": yard.data}},
            "training_results_reference":
                {"type": "s3", "connection": self.connection, "target": {"bucket": yard.results}},
        });
        body.to_string().into_bytes()
    }
}

impl World {
    /// Submits where a slot is free; cancels, deletes and looks now and then.
    pub fn keep_busy(&mut self) {
        if !self.is_served() {
            return;
        }
        // The newest: more than go on.
        let Some((200, page)) = self.asked("GET", "/v3/models?limit=100", None) else { return };
        let runs = page["resources"].as_array().into_iter().flatten();
        let runs: BTreeMap<&str, &Value> =
            runs.filter_map(|run| Some((run["metadata"]["guid"].as_str()?, run))).collect();
        for slot in 0..SLOTS {
            match self.slots[slot].clone() {
                None => self.submit(slot),
                Some(known) => {
                    let run = known.id.as_ref().and_then(|id| runs.get(id.as_str())).copied();
                    self.use_it(slot, known, run);
                }
            }
        }
    }

    fn submit(&mut self, slot: usize) {
        self.load.count += 1;
        let number = self.load.count;
        // Most are short; some live long enough to be stored while they run.
        let long = self.dice.chance(15);
        let lines = if long { 100 + self.dice.roll(40) } else { 3 + self.dice.roll(30) } as u32;
        let pause = if long { 60 } else { self.dice.roll(50) };
        let big = if self.dice.chance(5) { (17 << 20) + self.dice.roll(8 << 20) } else { 0 };
        let exit = if self.dice.chance(10) { 3 } else { 0 };
        let seed = self.dice.roll(u64::from(u32::MAX));
        let name = format!("kill-{number}");
        let command = format!("python3 work.py {seed} {lines} {pause} {big} {exit} {slot} {number}");
        if self.dice.chance(10) {
            // New data now and then: otherwise the node has all of it.
            let (key, bytes) = (format!("input-{}", number % 8), name.clone().into_bytes());
            let put = self.data.put(&key, bytes.into());
            let _ = self.asker.block_on(async { tokio::time::timeout(ANSWER, put).await });
        }
        let body = self.load.body(&self.yard, &name, &command);
        let answer = self.asker.ask("POST", "/v3/models", Some(body));
        let id = match &answer {
            Some((202, run)) => run["metadata"]["guid"].as_str().map(str::to_owned),
            // The store is asked, and it may have met a fault.
            Some((400..500, _)) => return,
            Some((status, body)) => {
                self.report.expect(!is_bad(*status), || format!("a submit is answered {status}: {body}"));
                return;
            }
            // It may have been taken all the same.
            None => None,
        };
        self.slots[slot] =
            Some(Known { id, name, lines, exit, canceled: false, deleted: false, surely: false });
    }

    fn use_it(&mut self, slot: usize, mut known: Known, run: Option<&Value>) {
        let Some(id) = known.id.clone() else {
            match self.find(&known.name) {
                Found::Run(id) => self.slots[slot] = Some(Known { id: Some(id), ..known }),
                Found::Nothing => self.slots[slot] = None,
                Found::NoAnswer => {}
            }
            return;
        };
        if known.deleted {
            // Its program may write into the slot until all that it left is gone. And was it heard?
            if run.is_none() && !self.yard.run_folder(&id).exists() {
                self.over.push(known);
                self.slots[slot] = None;
            }
            return;
        }
        if run.is_some_and(is_over) {
            self.over.push(known);
            self.slots[slot] = None;
            return;
        }
        let path = format!("/v3/models/{id}");
        match self.dice.roll(400) {
            0..4 => {
                let patch = br#"[{"op": "replace", "path": "/status/state", "value": "canceled"}]"#.to_vec();
                known.canceled = true;
                self.asked("PATCH", &path, Some(patch));
            }
            4..8 => {
                known.deleted = true;
                known.surely = matches!(self.asked("DELETE", &path, None), Some((204, _)));
            }
            _ => {}
        }
        self.slots[slot] = Some(known);
    }

    /// Asks the server; an answer that says that it is at fault is a violation.
    pub fn asked(&mut self, method: &str, path: &str, body: Option<Vec<u8>>) -> Option<(u16, Value)> {
        let answer = self.asker.ask(method, path, body)?;
        self.report.checked("answers of the API", 1);
        self.report
            .expect(!is_bad(answer.0), || format!("{method} {path} is answered {}: {}", answer.0, answer.1));
        Some(answer)
    }

    /// The run of this name.
    pub fn find(&mut self, name: &str) -> Found {
        match self.asked("GET", &format!("/v3/models?name={name}"), None) {
            Some((200, page)) => match page["resources"][0]["metadata"]["guid"].as_str() {
                Some(id) => Found::Run(id.to_owned()),
                None => Found::Nothing,
            },
            _ => Found::NoAnswer,
        }
    }
}

/// What the server says of a name.
pub enum Found {
    Run(String),
    Nothing,
    NoAnswer,
}

/// Whether an answer says that the server is at fault. One that has no room for more says so by 503.
fn is_bad(status: u16) -> bool {
    status >= 500 && status != 503
}

pub fn is_over(run: &Value) -> bool {
    matches!(run["entity"]["status"]["state"].as_str(), Some("completed" | "error" | "canceled"))
}
