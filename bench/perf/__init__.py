"""Speed of models on this machine: steps split into their parts, against measured peaks, and what bounds them."""
