"""Attackers, the other clients whose service they must not spoil, and the figures of the worker meanwhile."""
