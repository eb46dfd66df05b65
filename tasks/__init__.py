"""What a task is: its types, its way in, its way out, its life."""
