"""What the experiments share: networks, tasks, training, and results with their circumstances.

Imports point one way: relatives, networks, tasks, training, store, laboratory, experiment, rendering.
"""
