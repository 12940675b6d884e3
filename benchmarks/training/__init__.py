"""Training steps: forward, backward and update of whole networks."""
