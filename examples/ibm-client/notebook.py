"""A notebook for Watson Machine Learning, cell by cell, as it was in 2018: only the URL is another.

    python notebook.py FOLDER

FOLDER is the data folder of a Trainyard server of this machine; addresses and keys are read from it. A
notebook of your own has them written into its first cell.
"""

import json
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile

from watson_machine_learning_client import WatsonMachineLearningAPIClient

HERE = pathlib.Path(__file__).parent


def main(folder):
    # [1] The credentials of the service, and of the object store.
    address = json.loads((folder / "server.json").read_text())
    keys = json.loads((folder / "s3-keys.json").read_text())
    wml_credentials = {
        "url": address["url"],
        "username": os.environ.get("WML_USERNAME", "notebook"),
        "password": os.environ["WML_PASSWORD"],
        "instance_id": "any",
    }
    connection = {"endpoint_url": address["s3_url"], **keys}

    # [2] The client.
    client = WatsonMachineLearningAPIClient(wml_credentials)

    # [3] The training definition: a zip of code.
    work = pathlib.Path(tempfile.mkdtemp())
    code = shutil.make_archive(str(work / "digits"), "zip", HERE.parent / "digits" / "code")
    properties = client.repository.DefinitionMetaNames
    definition = client.repository.store_definition(
        code,
        {
            properties.NAME: "digits",
            properties.FRAMEWORK_NAME: "numpy",
            properties.FRAMEWORK_VERSION: "2",
            properties.RUNTIME_NAME: "python",
            properties.RUNTIME_VERSION: "3",
            properties.EXECUTION_COMMAND: "python3 convolutional_network.py --trainingIters 60000",
        },
    )
    definition_uid = client.repository.get_definition_uid(definition)

    # [4] The run, followed.
    properties = client.training.ConfigurationMetaNames
    run = client.training.run(
        definition_uid,
        {
            properties.NAME: "digits from a notebook",
            properties.TRAINING_DATA_REFERENCE: {
                "connection": connection,
                "source": {"bucket": "digits-data"},
                "type": "s3",
            },
            properties.TRAINING_RESULTS_REFERENCE: {
                "connection": connection,
                "target": {"bucket": "digits-results"},
                "type": "s3",
            },
            properties.COMPUTE_CONFIGURATION: {"name": "cpu"},
        },
        asynchronous=True,
    )
    run_uid = client.training.get_run_uid(run)
    client.training.monitor_logs(run_uid)

    # [5] How it went.
    status = client.training.get_status(run_uid)
    print("State:", status["state"])
    client.training.list()
    if status["state"] != "completed":
        sys.exit(1)

    # [6] The model, stored and downloaded.
    model = client.repository.store_model(run_uid, {client.repository.ModelMetaNames.NAME: "digits"})
    model_uid = client.repository.get_model_uid(model)
    archive = str(work / "model.tar.gz")
    client.repository.download(model_uid, archive)
    with tarfile.open(archive) as tar:
        print("Model:", ", ".join(sorted(tar.getnames())))
    client.repository.list_models()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).expanduser())
