"""The `sluice` command: tasks over HTTP, and the local stack of servers and processes."""
