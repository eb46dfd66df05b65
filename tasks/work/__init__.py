"""What the task types are made of: reading CSV, counting, drawing, figures, mail. It knows nothing of tasks."""
