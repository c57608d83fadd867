"""The processes that train together, requests to stop, and the Weights & Biases run."""
