"""The ledger: what is known of every task, durably. It knows neither Celery nor HTTP."""
