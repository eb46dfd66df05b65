"""Telling a task's webhook what became of it, by Standard Webhooks (standardwebhooks.com)."""
