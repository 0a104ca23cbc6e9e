"""Training and evaluation of one run; `bench.run` and `fit` hand values from one module to the next."""
