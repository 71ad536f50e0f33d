"""Sluice holds a GPU inference fleet at the economic optimum of its workload mix.

The rooms, from pure to practical; imports point from right to left only::

    model < api < planning < policy, learning < deciding < simulation
          < observe, actuate, gate < control < demo < cli
"""
