"""A program with a race, which tools/test-sanitizers has to find: two threads write one result."""
import threading

import numpy as np

import fastconv as fc

x = np.ones((1, 8, 512, 512), np.float32)
y = np.empty_like(x)
threads = [threading.Thread(target=lambda: [fc.relu(x, out=y, num_threads=1) for _ in range(5)]) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
