"""The tests: `unit` is pure, `real` talks to the embedded servers, `chaos` breaks them."""
