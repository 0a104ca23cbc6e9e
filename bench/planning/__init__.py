"""Planning: grids become runs; overrides, selections and plug-ins from the command line. Starts without torch."""
