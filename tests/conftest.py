"""Environment of all tests, and of the processes that they start."""

import os
import signal

# OpenMP's threads wait by spinning, which on a busy machine is most of the time. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell that starts the tests in the background has them ignore SIGINT, and the commands that they interrupt too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
