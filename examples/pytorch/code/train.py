#!/usr/bin/env python3
"""Handwritten digits in PyTorch: the task of examples/digits, on images of any size."""

import argparse
import gzip
import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter


def read_idx(path):
    with gzip.open(path, "rb") as file:
        data = file.read()
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load(folder, part, device):
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:, None].astype(np.float32) / 255
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
    return torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learningRate", type=float, default=0.001)
    parser.add_argument("--trainingIters", type=int, default=20_000, help="images to learn from, repeats counted")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data, results = Path(os.environ["DATA_DIR"]), Path(os.environ["RESULT_DIR"]) / "model"
    results.mkdir(parents=True, exist_ok=True)
    images, labels = load(data, "train", device)
    test_images, test_labels = load(data, "t10k", device)
    print(f"{len(images)} images of {images.shape[2]} x {images.shape[3]} pixels, on {device}", flush=True)
    torch.manual_seed(1)
    height, width = images.shape[2] // 2, images.shape[3] // 2
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(24 * height * width, 64), nn.ReLU(), nn.Linear(64, 10),
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), arguments.learningRate)
    steps = max(1, arguments.trainingIters // 64)

    def accuracy():
        with torch.no_grad():
            return (model(test_images).argmax(1) == test_labels).float().mean().item()

    # Trainyard collects the curves from here while they are written.
    curves = SummaryWriter(Path(os.environ["JOB_STATE_DIR"]) / "logs" / "tb" / "train", flush_secs=5)
    with open(results / "metrics.jsonl", "w") as metrics:
        for step in range(1, steps + 1):
            batch = torch.randint(len(images), (64,), device=device)
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % max(1, steps // 10) == 0:
                row = {"iteration": step, "loss": loss.item(), "accuracy": accuracy()}
                print("step {iteration}  loss {loss:.4f}  test accuracy {accuracy:.4f}".format(**row), flush=True)
                metrics.write(json.dumps(row) + "\n")
                for name in ("loss", "accuracy"):
                    curves.add_scalar(name, row[name], step)
    curves.close()
    torch.save(model.state_dict(), results / "weights.pt")
    (results / "summary.json").write_text(json.dumps({"test_accuracy": accuracy(), "steps": steps}) + "\n")
    print(f"Optimization finished. Testing accuracy: {accuracy():.4f}")


if __name__ == "__main__":
    main()
