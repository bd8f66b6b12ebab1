"""Sources: one module or folder per system; each is a leaf that knows only the contract and its driver."""
