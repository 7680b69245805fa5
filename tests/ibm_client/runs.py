"""A run that is waited for, and one that is canceled: both ways of the client."""

import pathlib

from yard import configuration, connect, logs_of_the_end, said, store_definition, wait_end, wait_for

SOURCE = (pathlib.Path(__file__).parent / "train.py").read_text()


def main():
    client = connect()
    definition = client.repository.get_definition_uid(store_definition(client, "runs", SOURCE))

    # Waited for: the client prints the states and returns the finished run.
    out, run = said(lambda: client.training.run(definition, configuration(client, "waited"), asynchronous=False))
    uid = client.training.get_run_uid(run)
    assert f"Running '{uid}'" in out and "completed" in out, out
    assert f"Training of '{uid}' finished successfully." in out, out
    assert run["entity"]["status"]["state"] == "completed", run

    # The command of the run goes before that of its definition; a run that fails says so.
    names = client.training.ConfigurationMetaNames
    failing = configuration(client, "failing", **{names.EXECUTION_COMMAND: "echo about to fail; exit 3"})
    out, run = said(lambda: client.training.run(definition, failing, asynchronous=False))
    uid = client.training.get_run_uid(run)
    assert f"Training of '{uid}' failed with status:" in out, out
    status = client.training.get_status(uid)
    assert status["state"] == "error" and "3" in status["error"]["errors"][0]["message"], status
    logs = logs_of_the_end(client, uid)
    assert logs is None or "about to fail" in logs, logs

    # Followed while it runs: every line once, up to the end.
    slow = configuration(client, "followed", **{names.EXECUTION_COMMAND: "PAUSE=0.3 python3 train.py"})
    uid = client.training.get_run_uid(client.training.run(definition, slow, asynchronous=True))
    wait_for("the run's start", lambda: client.training.get_status(uid)["state"] == "running")
    logs, _ = said(lambda: client.training.monitor_logs(uid))
    assert [line.split()[1] for line in logs.splitlines() if line.startswith("step ")] == list("123456"), logs
    assert "trained" in logs and "Training process finished. Exit code: 0" in logs, logs

    # Canceled: what it wrote is there.
    long = configuration(client, "long", **{names.EXECUTION_COMMAND: "echo begun; sleep 1000"})
    uid = client.training.get_run_uid(client.training.run(definition, long, asynchronous=True))
    wait_for("the run's start", lambda: client.training.get_status(uid)["state"] == "running")
    wait_for("its program's start", lambda: client.training.get_status(uid)["phase"] == "PROCESSING")
    client.training.cancel(uid)
    status = wait_end(client, uid)
    assert status["state"] == "canceled", status
    logs = logs_of_the_end(client, uid)
    assert logs is None or "begun" in logs, logs
    listed, _ = said(client.training.list)
    assert "canceled" in listed and "error" in listed and "completed" in listed, listed
    client.repository.delete(definition)
    print("DONE runs", client.version)


if __name__ == "__main__":
    main()
