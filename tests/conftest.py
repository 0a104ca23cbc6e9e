"""One thread per process: OpenMP's threads wait by spinning, which on a busy machine is most of the time."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the processes that tests start
