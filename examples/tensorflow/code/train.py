#!/usr/bin/env python3
"""Handwritten digits in TensorFlow: the task of examples/digits, on images of any size."""

import argparse
import gzip
import json
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf  # noqa: E402


def read_idx(path):
    with gzip.open(path, "rb") as file:
        data = file.read()
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load(folder, part):
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")[..., None].astype(np.float32) / 255
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learningRate", type=float, default=0.001)
    parser.add_argument("--trainingIters", type=int, default=20_000, help="images to learn from, repeats counted")
    arguments = parser.parse_args()
    data, results = Path(os.environ["DATA_DIR"]), Path(os.environ["RESULT_DIR"]) / "model"
    results.mkdir(parents=True, exist_ok=True)
    images, labels = load(data, "train")
    test = load(data, "t10k")
    tf.random.set_seed(1)
    model = tf.keras.Sequential([
        tf.keras.Input(images.shape[1:]),
        tf.keras.layers.Conv2D(24, 3, padding="same", activation="relu"),
        tf.keras.layers.MaxPool2D(),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(64, activation="relu"),
        tf.keras.layers.Dense(10),
    ])
    model.compile(
        tf.keras.optimizers.Adam(arguments.learningRate),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    epochs = max(1, round(arguments.trainingIters / len(images)))
    # Trainyard collects the curves from here while they are written.
    curves = tf.keras.callbacks.TensorBoard(Path(os.environ["JOB_STATE_DIR"]) / "logs" / "tb", write_graph=False)
    history = model.fit(images, labels, 64, epochs, verbose=2, validation_data=test, callbacks=[curves])
    rows = [dict(zip(history.history, values)) for values in zip(*history.history.values())]
    (results / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model.export(results / "saved_model", verbose=False)
    accuracy = float(model.evaluate(*test, verbose=0)[1])
    (results / "summary.json").write_text(json.dumps({"test_accuracy": accuracy, "epochs": epochs}) + "\n")
    print(f"Optimization finished. Testing accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
