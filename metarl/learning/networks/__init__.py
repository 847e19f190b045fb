"""Networks, their distributions, and their optimisers.

MLPs with hand-written derivatives (`perceptron`, `wide`, `flat`, `linearised`), torch modules (`modules`, `cells`),
networks with a memory (`sequence`, `recurrent`, `belief`, `vae`), soft actor-critic (`soft_actor_critic`, `squashed`),
the encoder of a set of transitions (`context_encoder`), distributions and Adam. Imports `device` and `saving` only.
"""
