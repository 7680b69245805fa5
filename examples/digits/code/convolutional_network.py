#!/usr/bin/env python3
"""A small convolutional network that reads handwritten digits, in nothing but numpy.

It reads the four MNIST files from $DATA_DIR, images of any size, and writes its model and its
metrics to $RESULT_DIR/model. One convolution (3 x 3), ReLU, a 2 x 2 maximum, one hidden layer, a
softmax; Adam on batches of 64.
"""

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np

FILTERS, KERNEL, HIDDEN, CLASSES, BATCH = 24, 3, 64, 10, 64


def read_idx(path):
    """The array of a gzipped IDX file of unsigned bytes."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"{path} is not an IDX file of unsigned bytes")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def load(folder, part):
    """Images (n, height, width) in 0..1, and labels (n,)."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32) / 255
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(int)


def patches(images):
    """Every 3 x 3 neighbourhood, padded at the border: (n, height, width, 9)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))
    return views.reshape(*images.shape, KERNEL * KERNEL)


class Network:
    def __init__(self, height, width, seed=0):
        rng = np.random.default_rng(seed)
        flat = (height // 2) * (width // 2) * FILTERS
        scaled = lambda *shape: (rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)
        self.weights = {
            "filters": scaled(KERNEL * KERNEL, FILTERS),
            "filter_bias": np.zeros(FILTERS, np.float32),
            "hidden": scaled(flat, HIDDEN),
            "hidden_bias": np.zeros(HIDDEN, np.float32),
            "out": scaled(HIDDEN, CLASSES),
            "out_bias": np.zeros(CLASSES, np.float32),
        }
        self.moments = {name: [np.zeros_like(w), np.zeros_like(w)] for name, w in self.weights.items()}
        self.steps = 0

    def forward(self, images):
        w = self.weights
        n, height, width = images.shape
        seen = patches(images)
        convolved = np.maximum(seen @ w["filters"] + w["filter_bias"], 0)
        # An odd last row or column has no partner and is left out.
        even = convolved[:, : height // 2 * 2, : width // 2 * 2]
        blocks = even.reshape(n, height // 2, 2, width // 2, 2, FILTERS)
        pooled = blocks.max(axis=(2, 4))
        flat = pooled.reshape(n, -1)
        hidden = np.maximum(flat @ w["hidden"] + w["hidden_bias"], 0)
        scores = hidden @ w["out"] + w["out_bias"]
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        return odds / odds.sum(axis=1, keepdims=True), (seen, convolved, blocks, pooled, flat, hidden)

    def gradients(self, images, labels):
        w = self.weights
        likely, (seen, convolved, blocks, pooled, flat, hidden) = self.forward(images)
        n, height, width = images.shape
        loss = -np.log(likely[np.arange(n), labels] + 1e-9).mean()
        d_scores = likely.copy()
        d_scores[np.arange(n), labels] -= 1
        d_scores /= n
        d_hidden = d_scores @ w["out"].T * (hidden > 0)
        d_pooled = (d_hidden @ w["hidden"].T).reshape(pooled.shape)
        chosen = blocks == pooled[:, :, None, :, None, :]
        d_blocks = chosen * d_pooled[:, :, None, :, None, :]
        d_convolved = np.zeros_like(convolved)
        d_convolved[:, : height // 2 * 2, : width // 2 * 2] = d_blocks.reshape(n, height // 2 * 2, width // 2 * 2, FILTERS)
        d_convolved *= convolved > 0
        flat_patches = seen.reshape(-1, KERNEL * KERNEL)
        flat_gradient = d_convolved.reshape(-1, FILTERS)
        return loss, {
            "filters": flat_patches.T @ flat_gradient,
            "filter_bias": flat_gradient.sum(axis=0),
            "hidden": flat.T @ d_hidden,
            "hidden_bias": d_hidden.sum(axis=0),
            "out": hidden.T @ d_scores,
            "out_bias": d_scores.sum(axis=0),
        }

    def step(self, gradients, rate):
        """One step of Adam (Kingma and Ba, 2015)."""
        self.steps += 1
        for name, gradient in gradients.items():
            first, second = self.moments[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            correction = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            self.weights[name] -= rate * correction * first / (np.sqrt(second) + 1e-8)

    def accuracy(self, images, labels):
        right = 0
        for start in range(0, len(images), 1000):
            likely, _ = self.forward(images[start : start + 1000])
            right += int((likely.argmax(axis=1) == labels[start : start + 1000]).sum())
        return right / len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learningRate", type=float, default=0.001)
    parser.add_argument("--trainingIters", type=int, default=20_000, help="images to learn from, repeats counted")
    arguments = parser.parse_args()

    data, results = Path(os.environ["DATA_DIR"]), Path(os.environ["RESULT_DIR"]) / "model"
    results.mkdir(parents=True, exist_ok=True)
    images, labels = load(data, "train")
    test_images, test_labels = load(data, "t10k")
    print(f"{len(images)} images to learn from, {len(test_images)} to test with, {images.shape[1]} x {images.shape[2]} pixels")

    network = Network(*images.shape[1:])
    rng = np.random.default_rng(1)
    steps = max(1, arguments.trainingIters // BATCH)
    begun = time.time()
    metrics = open(results / "metrics.jsonl", "w")
    for step in range(1, steps + 1):
        batch = rng.integers(0, len(images), BATCH)
        loss, gradients = network.gradients(images[batch], labels[batch])
        network.step(gradients, arguments.learningRate)
        if step % max(1, steps // 10) == 0 or step == steps:
            accuracy = network.accuracy(test_images, test_labels)
            print(f"step {step}/{steps}  loss {loss:.4f}  test accuracy {accuracy:.4f}", flush=True)
            row = {"iteration": step, "loss": float(loss), "accuracy": accuracy}
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
    metrics.close()
    np.savez(results / "weights.npz", **network.weights)
    accuracy = network.accuracy(test_images, test_labels)
    summary = {"test_accuracy": accuracy, "steps": steps, "seconds": round(time.time() - begun, 3)}
    (results / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"Optimization finished. Testing accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
