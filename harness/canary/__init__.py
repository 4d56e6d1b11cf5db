"""The canary: a model made by hand, whose every logit follows from integer arithmetic.

``sizes`` says how large it is, ``build`` compiles it into weights, ``expected`` tells
its rows, ``run`` takes it through a device, ``diagnosis`` names what is wrong from
which bits are. How it works is in docs/canary.md.
"""
