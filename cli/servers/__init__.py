"""The private servers of a stack: one file per server, each with its files, its URL and its program."""
