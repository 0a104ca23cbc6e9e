"""Status: states of runs, and the pages that show them."""
