"""Random programs, run under PyTorch and under gradient, and compared.

program      a program as data: statements on earlier results; printed as a runnable script
interpreter  runs one with either package, gradients and second derivatives included
numbers      tensors and numbers on the edges: zeros, ties, NaN, infinities, offsets of 1e6
schemas      arguments drawn from PyTorch's own declarations of its functions
rows         what cannot be drawn from a declaration: functions with shapes that fit
operators    operators, matrix products, indices
layers       functions of nn.functional, and modules
generator    draws programs; PyTorch runs each statement as it is drawn
comparison   says where two runs differ
mistakes     whether a call that both refuse has two mistakes
replay       programs run again, changed in one thing
known/       the differences that we mean, each with its reason
shrinking    the fewest statements that still show a difference
"""
