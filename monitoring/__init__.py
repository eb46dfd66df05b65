"""What Prometheus and Grafana are told about Sluice: where to look, what to draw, and when to call somebody."""
