"""Estimates: resources of planned runs, job arrays, and the page of `bench plan`."""
