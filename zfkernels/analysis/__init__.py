"""The rest of the paper: what moves a layer's features, which parts correspond, filters, features during training,
transfer. Each function takes tensors and a model and returns a result; none opens a file or draws.

The functions are ``zfkernels.invariance``, ``correspondence``, ``diagnose``, ``evolution``, ``transfer`` and
``layer_probe``; what else belongs to each lies in its module here.
"""
