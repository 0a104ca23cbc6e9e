"""The harness: plan, run, score and collate backbone × strategy × fold."""
