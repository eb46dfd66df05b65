"""Defects to be seeded, for tests that must see their own checks fail: each module spoils the process that loads it.

They are loaded as modules of task types (SLUICE_TASK_MODULES), so that the service itself knows nothing of them.
"""
