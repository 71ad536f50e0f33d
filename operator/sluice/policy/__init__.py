"""From plans to action: limits and weights for the proxies, and the order of admission at the gate."""
