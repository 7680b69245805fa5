#!/usr/bin/env python3
"""Handwritten digits on several nodes: PyTorch's DistributedDataParallel, one process a learner."""

import argparse
import gzip
import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


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
    parser.add_argument("--learningRate", type=float, default=0.002)
    parser.add_argument("--trainingIters", type=int, default=60_000, help="images to learn from, over all learners")
    arguments = parser.parse_args()
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    # RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are there.
    dist.init_process_group("nccl" if gpu else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    print(f"learner {rank + 1} of {world}, on {device}", flush=True)

    data = Path(os.environ["DATA_DIR"])
    images, labels = load(data, "train", device)
    images, labels = images[rank::world], labels[rank::world]
    torch.manual_seed(1 + rank)
    height, width = images.shape[2] // 2, images.shape[3] // 2
    network = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(24 * height * width, 64), nn.ReLU(), nn.Linear(64, 10),
    ).to(device)
    # From here on all learners have the first one's weights, and average their gradients.
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(model.parameters(), arguments.learningRate)
    batch_size = max(1, 64 // world)
    steps = max(1, arguments.trainingIters // (batch_size * world))
    for step in range(1, steps + 1):
        batch = torch.randint(len(images), (batch_size,), device=device)
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            print(f"step {step}  loss {loss.item():.4f}", flush=True)

    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    others = [torch.empty_like(weights) for _ in range(world)]
    dist.all_gather(others, weights)
    assert all(torch.equal(weights, other) for other in others), "the learners have drifted apart"
    if rank == 0:
        test_images, test_labels = load(data, "t10k", device)
        with torch.no_grad():
            accuracy = (network(test_images).argmax(1) == test_labels).float().mean().item()
        results = Path(os.environ["RESULT_DIR"]) / "model"
        results.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), results / "weights.pt")
        summary = {"test_accuracy": accuracy, "steps": steps, "learners": world}
        (results / "summary.json").write_text(json.dumps(summary) + "\n")
        print(f"Optimization finished. Testing accuracy: {accuracy:.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
