"""Networks, the distributions they put out, and their optimisers.

Perceptrons with hand-written derivatives (`perceptron`, `wide`, `flat`, `linearised`), torch modules (`modules`,
`cells`, `recurrent`, `belief`), distributions and Adam. Imports `device` only.
"""
