"""Families made of Gymnasium environments, registered ones or the user's own.

A family (`family`, `from_gym`) passes the parameters of its tasks to environments (`delivery`, `constants`, `vary`),
which are stepped as one batch (`batch`, `rows`).
Imports the core and `metarl.own_code`; the core finds it by the entry point `gym` of the group `metarl.schemes`.
"""
