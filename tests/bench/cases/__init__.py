"""What is measured, a file for each question. `measure(bench)` is one round; it yields figures."""
