"""The data worker: `celery -A workers.data worker`."""

from workers import process

app = process.build("data")
