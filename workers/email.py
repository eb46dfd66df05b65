"""The email worker: `celery -A workers.email worker`."""

from workers import process

app = process.build("email")
