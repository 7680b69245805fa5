"""What goes wrong, as the client's users know it: the exception, its text, and our code in it."""

from yard import SETTING, configuration, connect, fails, store_definition

MISSING = "00000000-0000-4000-8000-000000000000"


def main():
    with fails("ApiRequestFailure", "Error during getting ML Token.", "Status code: 401", "TY0201"):
        connect(password="wrong")
    with fails("ApiRequestFailure", "Error during getting ML Token.", "Status code: 401"):
        connect(username="nobody")

    client = connect()
    url = SETTING["url"]
    unknown = "training-zzzzzzzzz"
    with fails("ApiRequestFailure", f"Failure during getting trained models details. (GET {url}/v3/models/{unknown})", "Status code: 404", "TY0202"):
        client.training.get_details(unknown)
    with fails("ApiRequestFailure", "Failure during model training cancel.", "Status code: 404"):
        client.training.cancel(unknown)
    with fails("ApiRequestFailure", "404"):
        client.repository.get_definition_details(MISSING)
    with fails("WMLClientError"):
        client.repository.delete(MISSING)
    with fails("WMLClientError", "Invalid uid: 'short'."):
        client.training.run("short", configuration(client, "x"))

    names = client.training.ConfigurationMetaNames
    definition = client.repository.get_definition_uid(store_definition(client, "failures", "print(1)"))
    incomplete = configuration(client, "x")
    del incomplete[names.TRAINING_RESULTS_REFERENCE]
    with fails("MissingMetaProp", "Missing meta_prop with name: "):
        client.training.run(definition, incomplete)
    submit = f"Failure during training. (POST {url}/v3/models)"
    with fails("ApiRequestFailure", submit, "Status code: 400", "TY0111"):
        client.training.run(definition, configuration(client, "x", data="no-such-bucket"))
    with fails("ApiRequestFailure", submit, "Status code: 400", "TY0110"):
        client.training.run(definition, configuration(client, "x", connection={"secret_access_key": "wrong"}))
    with fails("ApiRequestFailure", submit, "Status code: 400", "TY0112"):
        client.training.run(definition, configuration(client, "x", connection={"endpoint_url": "http://127.0.0.1:1"}))
    with fails("ApiRequestFailure", submit, "Status code: 400", "TY0104"):
        client.training.run(definition, configuration(client, "x", **{names.COMPUTE_CONFIGURATION: {"name": "v1000"}}))

    # A definition whose content is no zip, and a run of a definition without one.
    bad = store_bad_definition(client)
    assert bad, "a file that is no zip was taken"

    # The parts of the original that are not here.
    with fails("ApiRequestFailure", "404"):
        client.repository.get_experiment_details(MISSING)
    assert client.repository.get_details()["experiments"]["resources"] == []
    client.repository.delete(definition)
    print("DONE failures", client.version)


def store_bad_definition(client):
    from yard import FOLDER

    path = FOLDER / "bad.zip"
    path.write_bytes(b"this is no zip")
    names = client.repository.DefinitionMetaNames
    properties = {
        names.NAME: "bad",
        names.FRAMEWORK_NAME: "custom",
        names.FRAMEWORK_VERSION: "1",
        names.RUNTIME_NAME: "python",
        names.RUNTIME_VERSION: "3",
        names.EXECUTION_COMMAND: "true",
    }
    with fails("ApiRequestFailure", "Failure during saving model definition content.", "Status code: 400", "TY0101"):
        client.repository.store_definition(str(path), properties)
    return True


if __name__ == "__main__":
    main()
