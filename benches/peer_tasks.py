"""Runs /bin/true many times in HyperQueue on two cores; prints tasks per second."""

import sys
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

count = int(sys.argv[1])
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    for n in (20, count):  # the first batch warms up
        job = Job()
        for _ in range(n):
            job.program(["/bin/true"], stdout=None, stderr=None)
        begun = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        elapsed = time.monotonic() - begun
    print(count / elapsed)
