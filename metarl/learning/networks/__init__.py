"""Networks, their distributions, and their optimisers.

MLPs with hand-written derivatives (`perceptron`, `wide`, `flat`, `linearised`), torch modules (`modules`, `cells`),
networks with a memory (`sequence`, `recurrent`, `belief`), a variational auto-encoder (`vae`), distributions and Adam.
Imports `device` and `saving` only.
"""
