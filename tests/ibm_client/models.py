"""Stored models from archives: uploaded, given a new version, downloaded, and found by any id."""

import io
import tarfile

from yard import FOLDER, connect, said


def archive(name, text):
    path = FOLDER / name
    with tarfile.open(path, "w:gz") as tar:
        data = text.encode()
        info = tarfile.TarInfo("weights.txt")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return str(path)


def content(client, uid, name):
    path = FOLDER / name
    client.repository.download(uid, str(path))
    with tarfile.open(path) as tar:
        return tar.extractfile("weights.txt").read().decode()


def main():
    client = connect()
    names = client.repository.ModelMetaNames
    properties = {names.NAME: "uploaded", names.FRAMEWORK_NAME: "tensorflow", names.FRAMEWORK_VERSION: "1.5"}
    model = client.repository.store_model(archive("one.tar.gz", "first"), properties)
    uid = client.repository.get_model_uid(model)
    details = client.repository.get_details(uid)
    assert details["entity"]["model_type"] == "tensorflow-1.5", details
    assert details["metadata"]["url"].endswith(f"/published_models/{uid}"), details
    assert content(client, uid, "got-1.tar.gz") == "first"
    if hasattr(client.repository, "update_model"):
        client.repository.update_model(uid, archive("two.tar.gz", "second"))
        assert content(client, uid, "got-2.tar.gz") == "second"
    listed, _ = said(client.repository.list_models)
    assert uid in listed and "uploaded" in listed, listed
    everything = client.repository.get_details()
    assert uid in [m["metadata"]["guid"] for m in everything["models"]["resources"]], everything["models"]
    client.repository.delete(uid)
    assert uid not in [m["metadata"]["guid"] for m in client.repository.get_model_details()["resources"]]
    print("DONE models", client.version)


if __name__ == "__main__":
    main()
