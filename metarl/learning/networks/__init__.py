"""Networks, the distributions they put out, and their optimisers.

Perceptrons with hand-written derivatives (`perceptron`, `wide`, `flat`, `linearised`), torch modules (`modules`,
`cells`, `recurrent`, `belief`), soft actor-critic (`soft_actor_critic`, `squashed`), the encoder of a set of
transitions (`context_encoder`), distributions and Adam. Imports `device` only.
"""
