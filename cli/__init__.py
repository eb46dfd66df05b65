"""The `sluice` command: the local stack of servers and processes, and what to do with it."""
