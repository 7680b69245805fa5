"""A training program that says what it is about to do before it does it: SEED LINES PAUSE_MS BIG EXIT SLOT NUMBER.

Whoever reads its log knows what lies in its folders, whenever it was killed: all that was said is done, but for the
last, which may be done or not. Files come to their names whole.
"""
import hashlib, json, os, random, sys, time

seed, lines, pause, big, status, slot, number = (int(a) for a in sys.argv[1:])
dice = random.Random(seed)
results, checkpoints = os.environ["RESULT_DIR"], os.environ["CHECKPOINT_DIR"]
metrics = open(os.path.join(os.environ["LOG_DIR"], "evaluation-metrics.txt"), "a")


def say(*words):
    print(*words, flush=True)


def put(folder, name, content):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if folder == results:
        say("put", name, len(content), hashlib.md5(content).hexdigest())
    with open(path + "-half", "wb") as file:
        file.write(content)
    os.replace(path + "-half", path)


say("begins")
kept = []
if big:
    put(results, "big", dice.randbytes(big))
for n in range(1, lines + 1):
    say("line", n)
    point = {"grouplabel": "train", "etimes": {"iteration": {"type": 2, "value": str(n)}},
             "values": {"loss": {"type": 3, "value": str(1 / n)}}}
    metrics.write(json.dumps(point) + "\n")
    metrics.flush()
    if dice.random() < 0.5:
        put(results, "part-%d" % n, dice.randbytes(dice.randrange(1, 3000)))
        kept.append("part-%d" % n)
    if len(kept) > 3:
        gone = kept.pop(0)
        say("remove", gone)
        os.remove(os.path.join(results, gone))
    if n % 5 == 0:
        put(checkpoints, "slot-%d" % slot, b"%d %d" % (number, n))
    time.sleep(pause / 1000)
put(results, "model/end", b"end")
say("ends")
sys.exit(status)
