"""What the stages share: a client, a definition, a run. Only public methods of the client are used."""

import contextlib
import io
import json
import os
import pathlib
import time
import zipfile

from watson_machine_learning_client import WatsonMachineLearningAPIClient

SETTING = json.loads(os.environ["TRAINYARD_TEST_YARD"])
FOLDER = pathlib.Path(SETTING["folder"])
PATIENCE = 60


def credentials(**changes):
    return {
        "url": SETTING["url"],
        "username": SETTING["user"],
        "password": SETTING["password"],
        "instance_id": "any",
        **changes,
    }


def connect(**changes):
    return WatsonMachineLearningAPIClient(credentials(**changes))


def zipped(name, source):
    path = FOLDER / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.py", source)
    return str(path)


def store_definition(client, name, source, command="python3 train.py"):
    names = client.repository.DefinitionMetaNames
    return client.repository.store_definition(
        zipped(name, source),
        {
            names.NAME: name,
            names.DESCRIPTION: "a test",
            names.AUTHOR_NAME: "somebody",
            names.FRAMEWORK_NAME: "custom",
            names.FRAMEWORK_VERSION: "1",
            names.RUNTIME_NAME: "python",
            names.RUNTIME_VERSION: "3",
            names.EXECUTION_COMMAND: command,
        },
    )


def configuration(client, name, **changes):
    names = client.training.ConfigurationMetaNames
    connection = {
        "endpoint_url": SETTING["endpoint"],
        "access_key_id": SETTING["access_key"],
        "secret_access_key": SETTING["secret_key"],
        **changes.pop("connection", {}),
    }
    data, results = changes.pop("data", SETTING["data"]), changes.pop("results", SETTING["results"])
    return {
        names.NAME: name,
        names.DESCRIPTION: "a test",
        names.AUTHOR_NAME: "somebody",
        names.TRAINING_DATA_REFERENCE: {"connection": connection, "source": {"bucket": data}, "type": "s3"},
        names.TRAINING_RESULTS_REFERENCE: {"connection": connection, "target": {"bucket": results}, "type": "s3"},
        names.COMPUTE_CONFIGURATION: {"name": "cpu"},
        **changes,
    }


def said(work):
    """What `work` prints, and what it returns."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result = work()
    return out.getvalue(), result


def wait_for(what, look):
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.05)
    return found


def logs_of_the_end(client, run):
    """The log of a run that is over; `None`: the client cannot get it, and says so.

    1.0.391 fetches it from the bucket, with what the server answers in place of the secret key. That is good
    for the server's own store, and for no other.
    """
    out, _ = said(lambda: client.training.monitor_logs(run))
    if client.version == "1.0.391" and not SETTING["home"]:
        assert "SignatureDoesNotMatch" in out, out
        return None
    return out


def wait_end(client, run):
    final = ("completed", "error", "canceled")
    wait_for(f"the end of {run}", lambda: client.training.get_status(run)["state"] in final)
    return client.training.get_status(run)


def fails(kind, *texts):
    """The work in this context raises `kind`, and its text holds all of `texts`."""

    @contextlib.contextmanager
    def context():
        try:
            yield
        except Exception as error:
            assert type(error).__name__ == kind, f"{type(error).__name__}, not {kind}: {error}"
            for text in texts:
                assert text in str(error), f"`{text}` is not in: {error}"
        else:
            raise AssertionError(f"no {kind} was raised")

    return context()
