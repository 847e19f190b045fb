"""Parts of few-shot learners.

Networks as functions of flat parameters, also for images (`networks`), losses (`losses`), the base class of learners
that Adam trains (`base`), and learners that adapt by an update rule (`gradient`).
Imports `rules`, `networks`, `device`, `saving`.
"""
