"""Cells: the part of a network that remembers, each in a file of its own.

`base` has the interface, `settings` the table of all cells and their options. The networks around a cell are in
`metarl.learning.networks`: `recurrent` (policy and value function), `belief` (encoder of a belief).
Imports `modules` and `acting` of `metarl.learning.networks`, and `device`.
"""
