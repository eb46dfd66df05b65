"""What docker-compose.yml needs besides the service: its secrets, the set-up of its servers, and its health checks."""
