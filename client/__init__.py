"""Sluice for Python programs, over HTTP and nothing else: it shares no code with the service.

    from client.sluice import Sluice

    sluice = Sluice.from_environment()                  # SLUICE_URL and SLUICE_API_KEY
    task = sluice.submit("bulk_insert", {"rows": 1000})
    print(sluice.wait(task["task_id"])["result"])
"""
