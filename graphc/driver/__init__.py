"""The driver: compile a model, call it, bind it, train it; arrays, initial values and the reference executor."""
