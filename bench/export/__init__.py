"""`bench export`: the model of a run as a folder for other programs, with a model card."""
