# A logistic regression on points that a line divides, by gradient descent: real training, in moments.
import json, math, os, random, struct, sys, time

random.seed(1)
points = [(random.uniform(-1, 1), random.uniform(-1, 1)) for _ in range(400)]
labels = [1.0 if x + 2 * y > 0.1 else 0.0 for x, y in points]
w = [0.0, 0.0, 0.0]
steps = int(os.environ.get("STEPS", "6"))
pause = float(os.environ.get("PAUSE", "0"))
log = os.environ["LOG_DIR"]
run = os.environ["TRAINING_ID"]

for step in range(1, steps + 1):
    loss, right, slope = 0.0, 0, [0.0, 0.0, 0.0]
    for (x, y), label in zip(points, labels):
        p = 1 / (1 + math.exp(-(w[0] * x + w[1] * y + w[2])))
        loss -= label * math.log(p + 1e-9) + (1 - label) * math.log(1 - p + 1e-9)
        right += (p > 0.5) == (label > 0.5)
        for i, v in enumerate((x, y, 1.0)):
            slope[i] += (p - label) * v
    w = [a - 2.0 * b / len(points) for a, b in zip(w, slope)]
    line = {
        "meta": {"training_id": run, "time": int(time.time() * 1000), "rindex": 1},
        "grouplabel": "train",
        "etimes": {"iteration": {"type": 2, "value": str(step)}, "time_stamp": {"value": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())}},
        "values": {
            "loss": {"type": 3, "value": str(loss / len(points))},
            "accuracy": {"type": 3, "value": str(right / len(points))},
        },
    }
    with open(os.path.join(log, "evaluation-metrics.txt"), "a") as metrics:
        metrics.write(json.dumps(line) + "\n")
    print(f"step {step} loss {loss / len(points):.4f} accuracy {right / len(points):.4f}", flush=True)
    time.sleep(pause)

model = os.path.join(os.environ["RESULT_DIR"], "model")
os.makedirs(model)
with open(os.path.join(model, "weights.json"), "w") as out:
    json.dump(w, out)
print("trained")
