"""The whole way: from the credentials to a stored model, and everything removed again."""

import json
import pathlib
import tarfile

from yard import (
    FOLDER,
    SETTING,
    configuration,
    connect,
    logs_of_the_end,
    said,
    store_definition,
    wait_end,
    wait_for,
)

SOURCE = (pathlib.Path(__file__).parent / "train.py").read_text()


def main():
    client = connect()
    version = client.version
    details = client.service_instance.get_details()
    assert details["metadata"]["url"].endswith("/wml_instances/any"), details

    # A definition, with its zip.
    definition = store_definition(client, "cycle", SOURCE, "PAUSE=0.4 python3 train.py")
    definition_uid = client.repository.get_definition_uid(definition)
    assert len(definition_uid) == 36
    assert client.repository.get_definition_url(definition).startswith(SETTING["url"])
    assert client.repository.get_definition_details(definition_uid)["entity"]["name"] == "cycle"
    listed, _ = said(client.repository.list_definitions)
    assert definition_uid in listed and "custom" in listed, listed

    # A run, followed while it runs.
    run = client.training.run(definition_uid, configuration(client, "cycle"), asynchronous=True)
    uid = client.training.get_run_uid(run)
    assert uid.startswith("training-") and len(uid) == 18, uid
    assert client.training.get_run_url(run).endswith(f"/v3/models/{uid}")
    wait_for("the run's start", lambda: client.training.get_status(uid)["state"] == "running")
    metrics, _ = said(lambda: client.training.monitor_metrics(uid))
    assert f"Metric monitor started for training run: {uid}" in metrics, metrics
    live = [line for line in metrics.splitlines() if " iteration:" in line]
    assert len(live) == 6 and "iteration:6 phase:train" in live[-1] and "accuracy:" in live[-1], metrics
    assert "Metric monitor done." in metrics
    status = wait_end(client, uid)
    assert status["state"] == "completed", status

    # The same after its end: every line once, in order.
    logs = logs_of_the_end(client, uid)
    if logs is not None:
        steps = [line for line in logs.splitlines() if line.startswith("step ")]
        assert len(steps) == 6 and steps[5].startswith("step 6 "), logs
        assert "Log monitor started for training run: " + uid in logs and "Log monitor done." in logs
    metrics, _ = said(lambda: client.training.monitor_metrics(uid))
    lines = metrics.splitlines()
    if logs is None:
        assert "SignatureDoesNotMatch" in metrics, metrics
    elif version == "1.0.391":
        # This one reads the file of the bucket.
        after = [json.loads(line) for line in lines if line.startswith("{")]
        assert [line["etimes"]["iteration"]["value"] for line in after] == list("123456"), metrics
    else:
        assert [line for line in lines if " iteration:" in line] == live, metrics

    points = client.training.get_details(uid)["entity"]["status"]["metrics"]
    assert [p["iteration"] for p in points] == [1, 2, 3, 4, 5, 6], points
    assert {v["name"] for v in points[0]["values"]} == {"loss", "accuracy"}, points
    assert {v["name"]: v["value"] for v in points[5]["values"]}["accuracy"] > 0.9, points[5]
    if hasattr(client.training, "get_metrics"):
        assert client.training.get_metrics(uid) == points
    listed, _ = said(client.training.list)
    assert uid in listed and "completed" in listed and "cycle" in listed, listed

    # The model.
    names = client.repository.ModelMetaNames
    model = client.repository.store_model(uid, {names.NAME: "kept"})
    model_uid = client.repository.get_model_uid(model)
    archive = FOLDER / f"{model_uid}.tar.gz"
    wait_for("the copy of the model", lambda: stored(client, model_uid, archive))
    with tarfile.open(archive) as tar:
        weights = json.load(tar.extractfile("weights.json"))
    assert len(weights) == 3, weights
    details = client.repository.get_model_details(model_uid)
    assert details["entity"]["name"] == "kept", details
    listed, _ = said(client.repository.list_models)
    assert model_uid in listed and "kept" in listed, listed
    listed, _ = said(client.repository.list)
    assert model_uid in listed and definition_uid in listed, listed

    # All removed; what looks for them says so.
    client.repository.delete(model_uid)
    client.repository.delete(definition_uid)
    client.training.delete(uid)
    for show in (client.training.get_details, client.repository.get_definition_details, client.repository.get_model_details):
        gone = {client.training.get_details: uid, client.repository.get_definition_details: definition_uid}.get(show, model_uid)
        try:
            show(gone)
        except Exception as error:
            assert "404" in str(error), error
        else:
            raise AssertionError(f"{gone} is still there")
    print("DONE cycle", version)


def stored(client, uid, archive):
    if not archive.exists():
        client.repository.download(uid, str(archive))
    return archive.exists()


if __name__ == "__main__":
    main()
