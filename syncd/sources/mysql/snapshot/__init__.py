"""Reading tables: chunks of the key space, and the rows of a chunk or of given keys as Arrow columns."""
