"""Families made of Gymnasium environments of the user's own.

A family (`family`, `from_gym`) hands its tasks' parameters to environments (`delivery`, `constants`, `vary`), which are
stepped as one batch in this process or in worker processes (`batch`, `rows`, `pool`, `worker`, `measure`).
Imports the framework's core and `metarl.own_code`; nothing in the core imports this package.
"""
