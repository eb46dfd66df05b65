"""The file worker: `celery -A workers.file worker`."""

from workers import process

app = process.build("file")
