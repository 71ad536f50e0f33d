"""One event-driven engine with two fidelities: the paper's network, and iterations as engines run them."""
