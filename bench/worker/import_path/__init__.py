"""Folder for PYTHONPATH that makes the packages `bench` and `registry` importable, and no other file beside them.

PYTHONPATH precedes the standard library. If the folder that holds both packages stood there, a queue.py or torch.py
beside them would take the place of the real module in every worker. Appending that folder to `sys.path` instead was
refused: an installed copy of another version would be found first.
"""
