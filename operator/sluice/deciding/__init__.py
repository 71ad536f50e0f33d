"""From a snapshot to a decision, as pure functions: estimate, decide, verify.

``estimate`` turns samples into demand, ``decide`` turns demand into a plan and targets or
says why the old ones stay, ``verify`` compares what the data plane does with what it was
told. Each takes and returns its own small memory, so that the operator, ``sluice plan``
and the simulator run the very same code.
"""
