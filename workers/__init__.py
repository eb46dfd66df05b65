"""The hands: one specialised worker per kind of task, and the monitor that looks after them all."""
