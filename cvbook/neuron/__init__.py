"""The mathematics of chapter 1: neurons, perceptrons, activations, gradients."""
