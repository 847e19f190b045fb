"""Few-shot learning under the same loop: tasks with examples instead of episodes.

Examples and sizes (`shots`), families and distributions of classes (`family`, `class_tasks`), the role of a learner
(`learner`), runs (`run`, `setup`, `source`), and evaluation (`evaluation`, `oracle`, `report`).
No environment, no agent. Families load no torch.
"""
