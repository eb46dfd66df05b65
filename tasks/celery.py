"""The Celery application: every task type under its own readable name, for the workers and for Flower."""

from __future__ import annotations

from celery import Celery

import celery_config

app = Celery("sluice", set_as_current=True)
app.config_from_object(celery_config.celery_options())
