"""Update rules: how a step of adaptation changes parameters, for policies, few-shot learners and modules of one's own.

The interface and the plain gradient step (`base`); each further rule is a file of its own. Imports `networks`.
"""
