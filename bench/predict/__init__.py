"""Nuclei in images of any size, by the model of a run: label maps, outlines, measurements and overlays."""
