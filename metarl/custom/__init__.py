"""Gymnasium environments of one's own as families of tasks: how they get a task, who steps them, what can go wrong."""
