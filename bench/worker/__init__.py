"""Workers: the code that runs inside a job or a local process and leaves a record of every attempt."""
